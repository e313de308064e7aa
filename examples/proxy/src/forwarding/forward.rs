//! Forwarding: checks a request, finds its route, rewrites its header fields, sends it to the
//! route's target, and returns the response.

mod attempt;
mod events;
mod exchange;
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
use lifecycle_proxy_records::tape::TapeRecorder;
use tracing::warn;

use crate::forwarding::content::Content;
use crate::inbound::body::Upload;
use crate::inbound::link::Link;
use crate::inbound::server::{Handler, Served, ask_to_close};
use crate::inbound::sockets::Listening;
use crate::message::fault::Fault;
use crate::message::headers::{self, Origin};
use crate::message::request::{Verdict, judge};
use crate::metrics::Metrics;
use crate::routing::group::Group;
use crate::routing::routes::{Routes, Target};
use crate::routing::sticky::Claim;
use crate::streams::websocket::{self, WebSocketOptions};
use crate::upstream::body::ResponseBody;
use crate::upstream::member::Member;
use crate::upstream::{Client, take};
use exchange::{Download, Exchange};
use failure::Failure;

/// A handler that passes requests on to the upstreams. Clones are cheap.
#[derive(Clone, Debug)]
pub struct Forward(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    client: Client,
    routes: Arc<Routes>,
    load: Arc<Load>,
    rules: Rules,
    accounting: Accounting,
    complaints: Throttle,
}

/// The rules under which requests are passed on.
#[derive(Clone, Debug)]
pub struct Rules {
    /// The time limit from the last byte of a request to the head of its response.
    pub response_limit: Duration,
    /// Whether the proxy keeps `X-Forwarded-Host` and `X-Forwarded-Proto` of an earlier proxy.
    pub trust_forwarded: bool,
    /// The options of WebSocket connections.
    pub websocket: WebSocketOptions,
    /// The listening sockets. They also tell whether clients should connect again, during a
    /// restart.
    pub listening: Listening,
}

/// The metrics and the tape in which exchanges are recorded.
#[derive(Clone, Debug)]
pub struct Accounting {
    /// The metrics, in which every exchange is counted.
    pub metrics: Arc<Metrics>,
    /// The recorder of the traffic tape, if a tape is configured.
    pub recorder: Option<Arc<TapeRecorder>>,
}

/// A response to a client, whose body comes from an upstream or from the proxy.
type Passed = Response<Content>;

/// A response, and the group member that sent it.
type Answered<'a> = (Response<ResponseBody>, &'a Arc<Member>);

impl Forward {
    /// Creates a handler that sends requests along `routes`, refuses requests while `load` does not
    /// admit them, and records every exchange in `accounting`.
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
            accounting,
            complaints: Throttle::default(),
        }))
    }
}

impl Handler for Forward {
    type Body = Download;

    /// Returns the future of the response. The future of an `async fn` would contain the request
    /// twice.
    fn handle(
        served: Arc<Served<Self>>,
        mut request: Request<Upload>,
    ) -> impl Future<Output = Response<Download>> + Send {
        let exchange = Exchange::begin(served, &request);
        let version = request.version();
        async move {
            let Served { handler, link } = exchange.served();
            let answered = match handler.0.check(&mut request) {
                Checked::Pass(host) => handler.0.pass(&mut request, host, link).await,
                Checked::Done(answered) => *answered,
            };
            let mut response = answered.unwrap_or_else(|failure| handler.0.fail(failure));
            if handler.0.is_pressed() {
                ask_to_close(version, &mut response);
            }
            exchange.answer(response, version)
        }
    }
}

/// The result of the first look at a request.
enum Checked {
    /// The request may be passed on. The value is the authority that it names, if it names one.
    Pass(Option<HeaderValue>),
    /// The request is answered or refused.
    Done(Box<Result<Passed, Failure>>),
}

/// Each function gets the request by reference. The request is moved only where it is sent: a
/// future that owns a request is larger, and so is each future that awaits that one.
impl Inner {
    fn check(&self, request: &mut Request<Upload>) -> Checked {
        Checked::Done(Box::new(match judge(request) {
            Verdict::Pass(host) if self.load.admits() => return Checked::Pass(host),
            Verdict::Pass(_) => Err(Fault::Overloaded.into()),
            Verdict::Answer(response) => Ok(response.map(Content::Own)),
            Verdict::Refuse(fault) => Err(fault.into()),
        }))
    }

    /// Returns whether clients should connect again, because the proxy is overloaded or is being
    /// replaced.
    fn is_pressed(&self) -> bool {
        self.load.is_pressed() || self.rules.listening.is_parting()
    }

    async fn pass(
        &self,
        request: &mut Request<Upload>,
        host: Option<HeaderValue>,
        link: &Link,
    ) -> Result<Passed, Failure> {
        match self.routes.find(host.as_ref(), request.uri().path()) {
            Some(Target::Http(group)) => {
                let client = self.prepare(request, host, link);
                self.proxy(request, client, link, group).await
            }
            // Boxed, like other calls that are rare: a future is as large as the largest future
            // that it may await.
            Some(Target::Stdio(client)) => Box::pin(program::call(take(request), client)).await,
            Some(Target::Feed(feed)) => events::listen(request, feed).map_err(Into::into),
            None => Err(Fault::NoRoute.into()),
        }
    }

    /// Prepares a request for an upstream. Returns the client's side of the upgrade, if the request
    /// asks for one.
    fn prepare(
        &self,
        request: &mut Request<Upload>,
        host: Option<HeaderValue>,
        link: &Link,
    ) -> Option<Upgrade> {
        let client = headers::asks_for_websocket(request).then(|| {
            // The server puts it there only for services that are the same for all connections.
            request.extensions_mut().insert(link.connection.clone());
            Upgrade::take(&mut *request)
        });
        let client = client.and_then(Result::ok);
        request.extensions_mut().clear();
        self.rewrite(request, host, link);
        if client.is_some() {
            headers::upgrade_to_websocket(request.headers_mut());
        }
        client
    }

    async fn proxy(
        &self,
        request: &mut Request<Upload>,
        client: Option<Upgrade>,
        link: &Link,
        group: &Group,
    ) -> Result<Passed, Failure> {
        let method = request.method().clone();
        let claim = match group.sticky() {
            Some(sticky) => Box::pin(sticky.claim(request.headers())).await,
            None => Claim::default(),
        };
        let wanted = claim.member();
        let to = (group, wanted.as_ref());
        let sent = self.send(request, &link.connection, to).await;
        let (mut response, member) = sent?;
        let version = response.version();
        let switches = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        let upstream = switches.then(|| hyper::upgrade::on(&mut response));
        headers::for_client(response.headers_mut(), version);
        *response.version_mut() = Version::HTTP_11;
        if let Some(sticky) = group.sticky() {
            let answer = (response.status(), response.headers_mut());
            Box::pin(sticky.answered(claim, member, &method, answer)).await;
        }
        match (client, upstream) {
            (_, None) => Ok(response.map(Content::Upstream)),
            // The upstream switches protocols although the client did not request an upgrade.
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
        // Fails when the client's connection has ended.
        client.run(relay).map_err(|_| Fault::BrokenOff)
    }

    /// Rewrites the header fields of the client's request for the request to the upstream.
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
