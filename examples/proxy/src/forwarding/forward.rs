//! The way of one request: judged, routed, rewritten, sent on, its response sent
//! back.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::{Body as _, Incoming};
use hyper::header::{
    CACHE_CONTROL, CONTENT_TYPE, HOST, HeaderName, HeaderValue, TRANSFER_ENCODING,
};
use hyper::http::request::Parts;
use hyper::http::uri::{PathAndQuery, Scheme, Uri};
use hyper::upgrade::OnUpgrade;
use hyper::{Method, Request, Response, StatusCode, Version};
use tokio::time::{Instant, sleep};
use tracing::{debug, warn};

use crate::config::Upstream;
use crate::forwarding::content::Content;
use crate::forwarding::exchange::{Accounting, Download, Exchange};
use crate::inbound::activity::Activity;
use crate::inbound::body::Upload;
use crate::inbound::connection::{Handler, Link};
use crate::inbound::interim;
use crate::inbound::sockets::Listening;
use crate::message::fault::{Fault, plain};
use crate::message::headers::{self, Origin};
use crate::message::request::{Verdict, judge};
use crate::message::response;
use crate::programs::stdio::message::Call;
use crate::programs::stdio::{self, StdioClient};
use crate::protection::load::Load;
use crate::routing::group::{Group, Pick};
use crate::routing::routes::{Routes, Target};
use crate::routing::sticky::Claim;
use crate::streams::feed::listener::Listener;
use crate::streams::feed::{FeedClient, LAST_EVENT_ID};
use crate::streams::websocket::{self, WebSocketOptions};
use crate::telemetry::logging::Throttle;
use crate::upstream::Client;
use crate::upstream::failure::fault_of;
use crate::upstream::kept::Life;
use crate::upstream::member::Member;

/// Passes requests on to the upstreams. A cheap clone.
#[derive(Clone, Debug)]
pub struct Forward(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    client: Client,
    routes: Arc<Routes>,
    load: Arc<Load>,
    rules: Rules,
    accounting: Arc<Accounting>,
    complaints: Throttle,
}

/// The rules under which requests are passed on.
#[derive(Clone, Debug)]
pub struct Rules {
    /// From the last byte of a request to the head of its response.
    pub response_limit: Duration,
    /// Whether an earlier proxy's word on host and scheme is kept.
    pub trust_forwarded: bool,
    /// How WebSocket connections are kept.
    pub websocket: WebSocketOptions,
    /// Whether clients should connect again.
    pub listening: Listening,
}

/// A response whose body may be the proxy's own.
type Passed = Response<Content>;

/// A response, and whose it is.
type Answered = (Response<Incoming>, Arc<Member>);

/// A fault, and the upstream whose it is.
#[derive(Debug)]
struct Failure {
    fault: Fault,
    upstream: Option<String>,
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Self {
            fault,
            upstream: None,
        }
    }
}

impl Failure {
    fn of(fault: Fault, upstream: &impl ToString) -> Self {
        Self {
            fault,
            upstream: Some(upstream.to_string()),
        }
    }
}

impl Forward {
    /// Sends requests along `routes`, as long as the `load` allows it, and enters
    /// them in `accounting`.
    #[must_use]
    pub fn new(
        client: Client,
        routes: Arc<Routes>,
        load: Arc<Load>,
        rules: Rules,
        accounting: Accounting,
    ) -> Self {
        Self(Arc::new(Inner {
            client,
            routes,
            load,
            rules,
            accounting: Arc::new(accounting),
            complaints: Throttle::default(),
        }))
    }
}

impl Handler for Forward {
    type Body = Download;

    async fn handle(&self, mut request: Request<Upload>, link: Link) -> Response<Download> {
        let exchange = Exchange::begin(&self.0.accounting, &request, &link);
        let response = match judge(&mut request) {
            Verdict::Pass(_) if !self.0.load.admits() => Err(Fault::Overloaded.into()),
            Verdict::Pass(host) => self.0.pass(request, host, &link).await,
            Verdict::Answer(response) => Ok(response.map(Content::Own)),
            Verdict::Refuse(fault) => Err(fault.into()),
        };
        let response = response.unwrap_or_else(|failure| self.0.fail(failure));
        exchange.answer(response, &link.connection)
    }

    fn admits(&self) -> bool {
        self.0.load.admits()
    }

    fn is_pressed(&self) -> bool {
        self.0.load.is_pressed() || self.0.rules.listening.is_parting()
    }
}

impl Inner {
    async fn pass(
        &self,
        request: Request<Upload>,
        host: Option<HeaderValue>,
        link: &Link,
    ) -> Result<Passed, Failure> {
        match self.routes.find(host.as_ref(), request.uri().path()) {
            Some(Target::Http(group)) => self.proxy(request, host, link, group).await,
            Some(Target::Stdio(program)) => call(request, program).await,
            Some(Target::Feed(feed)) => listen(&request, feed).map_err(Into::into),
            None => Err(Fault::NoRoute.into()),
        }
    }

    async fn proxy(
        &self,
        mut request: Request<Upload>,
        host: Option<HeaderValue>,
        link: &Link,
        group: &Group,
    ) -> Result<Passed, Failure> {
        let asks = headers::asks_for_websocket(&request);
        let client = asks.then(|| hyper::upgrade::on(&mut request));
        request.extensions_mut().clear();
        interim::pass_on(&mut request, link.activity.interim());
        let (mut parts, body) = request.into_parts();
        self.rewrite(&mut parts, host, link);
        if client.is_some() {
            headers::upgrade_to_websocket(&mut parts.headers);
        }
        let method = parts.method.clone();
        let claim = match group.sticky() {
            Some(sticky) => sticky.claim(&parts.headers).await,
            None => Claim::default(),
        };
        let wanted = claim.member();
        let sent = self
            .send(parts, body, &link.activity, (group, wanted))
            .await;
        let (mut response, member) = sent?;
        let version = response.version();
        let switches = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        let upstream = switches.then(|| hyper::upgrade::on(&mut response));
        headers::for_client(response.headers_mut(), version);
        *response.version_mut() = Version::HTTP_11;
        if let Some(sticky) = group.sticky() {
            let answer = (response.status(), response.headers_mut());
            sticky.answered(claim, &member, &method, answer).await;
        }
        match (client, upstream) {
            (_, None) => Ok(response.map(Content::Upstream)),
            // No upgrade was asked for, so none can be meant.
            (None, Some(_)) => Err(Failure::of(Fault::BadResponse, group)),
            (Some(client), Some(upstream)) => {
                self.relay(client, upstream, link);
                headers::upgrade_to_websocket(response.headers_mut());
                Ok(response.map(|_| Content::empty()))
            }
        }
    }

    fn relay(&self, client: OnUpgrade, upstream: OnUpgrade, link: &Link) {
        let keep = self.rules.websocket.clone();
        let connection = link.connection.clone();
        link.upgrade
            .set(websocket::relay(client, upstream, keep, connection));
    }

    /// Makes the client's fields this proxy's own.
    fn rewrite(&self, parts: &mut Parts, host: Option<HeaderValue>, link: &Link) {
        let origin = Origin {
            peer: link.peer,
            local: link.local,
            host: host.as_ref(),
        };
        let trust = self.rules.trust_forwarded;
        headers::for_upstream(&mut parts.headers, parts.version, &origin, trust);
        headers::join_cookies(&mut parts.headers);
        match host {
            Some(host) => parts.headers.insert(HOST, host),
            None => parts.headers.remove(HOST),
        };
    }

    /// Sends the request, and once more if it may be repeated: a kept connection
    /// can end while it is taken up, and where one upstream cannot be reached
    /// another may be.
    async fn send(
        &self,
        parts: Parts,
        body: Upload,
        activity: &Activity,
        (group, wanted): (&Group, Option<Arc<Member>>),
    ) -> Result<Answered, Failure> {
        let again = may_repeat(&parts.method, &body).then(|| parts.clone());
        let to = (group, wanted.clone());
        let first = self.send_to_next(parts, body, activity, to).await;
        match (first, again) {
            (Err(failure), Some(parts)) if is_worth_another(failure.fault, group) => {
                let next = if failure.fault.is_of_connecting() {
                    wanted.and_then(|gone| group.next_after(&gone))
                } else {
                    wanted
                };
                self.send_to_next(parts, Upload::empty(), activity, (group, next))
                    .await
            }
            (result, _) => result,
        }
    }

    async fn send_to_next(
        &self,
        mut parts: Parts,
        body: Upload,
        activity: &Activity,
        (group, wanted): (&Group, Option<Arc<Member>>),
    ) -> Result<Answered, Failure> {
        let Some(Pick { member, ticket }) = group.pick_or(wanted) else {
            return Err(Failure::of(Fault::Unavailable, group));
        };
        let upstream = &member.upstream;
        readdress(&mut parts, upstream)?;
        if !upstream.is_http2() && !body.is_end_stream() && body.size_hint().exact().is_none() {
            // hyper takes a GET for one without a body unless it is told that there is one.
            let chunked = HeaderValue::from_static("chunked");
            parts.headers.insert(TRANSFER_ENCODING, chunked);
        }
        let request = Request::from_parts(parts, body);
        match self.attempt(upstream, request, activity).await {
            Ok(response) => {
                ticket.succeeded();
                Ok((response, member))
            }
            Err(fault) => {
                // What its client does says nothing of an upstream.
                if fault.is_of_upstream() {
                    ticket.failed();
                }
                Err(Failure::of(fault, upstream))
            }
        }
    }

    async fn attempt(
        &self,
        upstream: &Upstream,
        request: Request<Upload>,
        activity: &Activity,
    ) -> Result<Response<Incoming>, Fault> {
        let limit = self.rules.response_limit;
        let start = Instant::now();
        let is_whole = request.body().is_end_stream();
        let mut response = pin!(self.client.request(upstream, request));
        let mut timer = pin!(sleep(limit));
        loop {
            tokio::select! {
                biased;
                response = response.as_mut() => {
                    let response = response.map_err(|error| {
                        let cause: &dyn std::error::Error = &error;
                        debug!(cause, "the upstream did not answer");
                        fault_of(&error)
                    })?;
                    Life::served(response.extensions());
                    response::check_framing(&response)?;
                    return Ok(response);
                }
                () = timer.as_mut() => {
                    // The limit counts from the end of a request that takes long itself.
                    let sent = if is_whole { start } else { activity.last_byte() };
                    let due = sent + limit;
                    if due <= Instant::now() {
                        return Err(Fault::ResponseTimeout);
                    }
                    timer.as_mut().reset(due);
                }
            }
        }
    }

    fn fail(&self, failure: Failure) -> Passed {
        let Failure { fault, upstream } = failure;
        let upstream = upstream.as_deref();
        if fault.is_of_upstream() {
            let failures = self.accounting.metrics.upstream_failed(fault);
            if self.complaints.allows() {
                warn!(upstream, %fault, failures, "the upstream failed");
            }
        }
        fault.response(upstream).map(Content::Own)
    }
}

/// Addresses a request to `upstream`.
fn readdress(parts: &mut Parts, upstream: &Upstream) -> Result<(), Fault> {
    let authority = upstream.authority();
    if upstream.is_http2() {
        headers::for_http2(&mut parts.headers);
        parts.version = Version::HTTP_2;
    } else {
        if !parts.headers.contains_key(HOST) {
            let host = HeaderValue::try_from(authority.as_str());
            parts
                .headers
                .insert(HOST, host.map_err(|_| Fault::Unreachable)?);
        }
        parts.version = Version::HTTP_11;
    }
    let path = parts.uri.path_and_query().cloned();
    parts.uri = Uri::builder()
        .scheme(Scheme::HTTP)
        .authority(authority.clone())
        .path_and_query(path.unwrap_or_else(|| PathAndQuery::from_static("/")))
        .build()
        .map_err(|_| Fault::BadRequest("the target is not a path"))?;
    Ok(())
}

/// Safe methods, without a body that is gone once it was sent.
fn may_repeat(method: &Method, body: &Upload) -> bool {
    method.is_safe() && body.is_end_stream()
}

fn is_worth_another(fault: Fault, group: &Group) -> bool {
    fault == Fault::DiedIdle || (fault.is_of_connecting() && group.members().len() > 1)
}

/// The session that a request is for, or that its answer begins.
const SESSION: HeaderName = HeaderName::from_static("mcp-session-id");

/// Has a program answer. This is the one body that is held in memory, up to its
/// limit: a message is a line, and a line is sent as a whole.
async fn call(request: Request<Upload>, program: &StdioClient) -> Result<Passed, Failure> {
    let session = request
        .headers()
        .get(SESSION)
        .filter(|_| program.has_sessions());
    let session = session.map(|name| name.to_str().unwrap_or_default().to_owned());
    match (request.method(), session) {
        (&Method::DELETE, Some(session)) => {
            let ended = program.end(&session).await;
            ended
                .then(|| empty(StatusCode::NO_CONTENT))
                .ok_or(Fault::NoSession.into())
        }
        (&Method::GET, Some(session)) => {
            let events = program.listen(&session, last_event(&request)).await;
            events.map(stream).map_err(|_| Fault::NoSession.into())
        }
        (&Method::POST, session) => {
            let message = message(request, program).await?;
            answer(message, session, program).await
        }
        _ => Err(Fault::PostOnly.into()),
    }
}

async fn message(request: Request<Upload>, program: &StdioClient) -> Result<Call, Fault> {
    let body = Limited::new(request.into_body(), program.longest());
    let body = body.collect().await.map_err(|error| {
        if error.is::<LengthLimitError>() {
            Fault::TooLarge
        } else {
            Fault::BadRequest("the body did not arrive")
        }
    })?;
    Call::read(&body.to_bytes()).map_err(Fault::BadRequest)
}

async fn answer(
    message: Call,
    session: Option<String>,
    program: &StdioClient,
) -> Result<Passed, Failure> {
    let mut begun = None;
    let answer = match session {
        Some(session) => program.call_in(&session, &message).await,
        None if message.is_initialize() && program.has_sessions() => {
            program.begin(&message).await.map(|(session, answer)| {
                begun = Some(session);
                answer
            })
        }
        None => program.call(&message).await,
    };
    let answer = answer.map_err(|failure| {
        debug!(?program, %failure, "the program did not answer");
        let fault = match failure {
            stdio::Failure::Unstarted(_) => Fault::Unstarted,
            stdio::Failure::Broken(_) => Fault::Terminated,
            stdio::Failure::Late => Fault::ResponseTimeout,
            stdio::Failure::Closed | stdio::Failure::Full => Fault::Unavailable,
            stdio::Failure::NoSession => Fault::NoSession,
        };
        Failure::of(fault, program)
    })?;
    let mut response = match answer {
        None => empty(StatusCode::ACCEPTED),
        Some(answer) => {
            let mut response = plain(StatusCode::OK, answer);
            let json = HeaderValue::from_static("application/json");
            response.headers_mut().insert(CONTENT_TYPE, json);
            response.map(Content::Own)
        }
    };
    if let Some(Ok(session)) = begun.map(HeaderValue::try_from) {
        response.headers_mut().insert(SESSION, session);
    }
    Ok(response)
}

/// Lets a client listen to a feed.
fn listen(request: &Request<Upload>, feed: &FeedClient) -> Result<Passed, Fault> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return Err(Fault::GetOnly);
    }
    // Clients take this as the end for good, as the proxy does.
    let events = feed.listen(last_event(request)).map(stream);
    Ok(events.unwrap_or_else(|| empty(StatusCode::NO_CONTENT)))
}

/// The last event that a client has seen.
fn last_event(request: &Request<Upload>) -> Option<&str> {
    let last = request.headers().get(LAST_EVENT_ID)?;
    std::str::from_utf8(last.as_bytes()).ok()
}

fn stream(events: Listener) -> Passed {
    let mut response = Response::new(Content::Events(events));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn empty(status: StatusCode) -> Passed {
    let mut response = Response::new(Content::empty());
    *response.status_mut() = status;
    response
}
