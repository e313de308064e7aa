//! Forwards a request: checks, routes and rewrites it, sends it on, and sends the response
//! back.

mod attempt;
mod events;
mod failure;
mod program;

use std::sync::Arc;
use std::time::Duration;

use hyper::header::{HOST, HeaderValue};
use hyper::upgrade::OnUpgrade;
use hyper::{Request, Response, StatusCode, Version};
use lifecycle_http::Upgrade;
use lifecycle_proxy_common::Throttle;
use lifecycle_proxy_overload::load::Load;
use tracing::warn;

use crate::forwarding::content::Content;
use crate::forwarding::exchange::{Accounting, Download, Exchange};
use crate::inbound::body::Upload;
use crate::inbound::link::Link;
use crate::inbound::server::Handler;
use crate::inbound::sockets::Listening;
use crate::message::fault::Fault;
use crate::message::headers::{self, Origin};
use crate::message::request::{Verdict, judge};
use crate::routing::group::Group;
use crate::routing::routes::{Routes, Target};
use crate::routing::sticky::Claim;
use crate::streams::websocket::{self, WebSocketOptions};
use crate::upstream::body::ResponseBody;
use crate::upstream::member::Member;
use crate::upstream::{Client, take};
use failure::Failure;

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

/// A response, and the member that it came from.
type Answered = (Response<ResponseBody>, Arc<Member>);

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
            Verdict::Pass(host) => self.0.pass(&mut request, host, &link).await,
            Verdict::Answer(response) => Ok(response.map(Content::Own)),
            Verdict::Refuse(fault) => Err(fault.into()),
        };
        let response = response.unwrap_or_else(|failure| self.0.fail(failure));
        exchange.answer(response, link.connection.connection())
    }

    fn is_pressed(&self) -> bool {
        self.0.load.is_pressed() || self.0.rules.listening.is_parting()
    }
}

/// A request is passed by reference, and taken where it is sent: each future that holds it
/// is larger by it, and is moved with all that it awaits.
impl Inner {
    async fn pass(
        &self,
        request: &mut Request<Upload>,
        host: Option<HeaderValue>,
        link: &Link,
    ) -> Result<Passed, Failure> {
        match self.routes.find(host.as_ref(), request.uri().path()) {
            Some(Target::Http(group)) => self.proxy(request, host, link, group).await,
            // Boxed, as what else is rare: the future of a request is as large as the largest
            // one that it can await.
            Some(Target::Stdio(client)) => Box::pin(program::call(take(request), client)).await,
            Some(Target::Feed(feed)) => events::listen(request, feed).map_err(Into::into),
            None => Err(Fault::NoRoute.into()),
        }
    }

    async fn proxy(
        &self,
        request: &mut Request<Upload>,
        host: Option<HeaderValue>,
        link: &Link,
        group: &Group,
    ) -> Result<Passed, Failure> {
        let asks = headers::asks_for_websocket(request);
        let client = asks
            .then(|| Upgrade::take(&mut *request))
            .and_then(Result::ok);
        request.extensions_mut().clear();
        self.rewrite(request, host, link);
        if client.is_some() {
            headers::upgrade_to_websocket(request.headers_mut());
        }
        let method = request.method().clone();
        let claim = match group.sticky() {
            Some(sticky) => Box::pin(sticky.claim(request.headers())).await,
            None => Claim::default(),
        };
        let wanted = claim.member();
        let sent = self.send(request, &link.connection, (group, wanted)).await;
        let (mut response, member) = sent?;
        let version = response.version();
        let switches = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        let upstream = switches.then(|| hyper::upgrade::on(&mut response));
        headers::for_client(response.headers_mut(), version);
        *response.version_mut() = Version::HTTP_11;
        if let Some(sticky) = group.sticky() {
            let answer = (response.status(), response.headers_mut());
            Box::pin(sticky.answered(claim, &member, &method, answer)).await;
        }
        match (client, upstream) {
            (_, None) => Ok(response.map(Content::Upstream)),
            // No upgrade was asked for, so none can be meant.
            (None, Some(_)) => Err(Failure::of(Fault::BadResponse, group)),
            (Some(client), Some(upstream)) => {
                self.relay(client, upstream)?;
                headers::upgrade_to_websocket(response.headers_mut());
                Ok(response.map(|_| Content::empty()))
            }
        }
    }

    fn relay(&self, client: Upgrade, upstream: OnUpgrade) -> Result<(), Fault> {
        let options = self.rules.websocket.clone();
        let relay =
            move |client, connection| websocket::relay(client, upstream, options, connection);
        // It is refused when the client is gone.
        client.run(relay).map_err(|_| Fault::BrokenOff)
    }

    /// Rewrites the client's fields for this proxy's own request.
    fn rewrite(&self, request: &mut Request<Upload>, host: Option<HeaderValue>, link: &Link) {
        let origin = Origin {
            peer: link.peer,
            local: link.local,
            host: host.as_ref(),
        };
        let trust = self.rules.trust_forwarded;
        let version = request.version();
        let fields = request.headers_mut();
        headers::for_upstream(fields, version, &origin, trust);
        match host {
            Some(host) => fields.insert(HOST, host),
            None => fields.remove(HOST),
        };
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
