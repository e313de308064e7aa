//! The admin listener: it serves a status page, metrics and probes, and has an action that begins
//! the shutdown. It answers until one of the last steps of the shutdown.

pub mod access;
pub mod feed;
pub mod page;
pub mod status;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::header::{ALLOW, CONNECTION, CONTENT_TYPE, HeaderValue, WWW_AUTHENTICATE};
use hyper::{Method, Request, Response, StatusCode};
use lifecycle_http::{HttpServer, Limits, Room};
use lifecycle_proxy_common::Throttle;
use lifecycle_runtime::{BoxError, Component, Context, Reason};
use tracing::{info, warn};

use crate::config::Admin;
use crate::inbound::body::Upload;
use crate::inbound::link::Link;
use crate::inbound::server::{self, Handler, Served};
use crate::inbound::sockets::{Listener, Listening};
use crate::message::fault::{options, plain};
use crate::message::request;
use crate::metrics::{self, Page};
use access::{Access, Denied};
use status::Status;

pub use status::Sources;

/// The number of connections from which on each new connection replaces an old connection without
/// an event stream. Scrapers, probes and people need few connections.
const ROOM: usize = 64;

/// The largest number of connections that may have an event stream.
const STREAMS: usize = 16;

/// The hard limit of connections. It is higher than [`ROOM`], since replaced connections take a
/// moment to close.
const MOST_CONNECTIONS: NonZeroUsize = const { NonZeroUsize::new(4 * ROOM).unwrap() };

/// The longest time for the head of a request. The admin listener closes slow and silent
/// connections even if the proxy's settings allow clients more time.
const LONGEST_HEAD: Duration = Duration::from_secs(5);
const LONGEST_SILENCE: Duration = Duration::from_secs(10);

const PATHS: &str = "see /, /status, /events, /metrics, /livez, /readyz\n";

type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// The admin server. It serves the status page, its data, `/metrics` and the probes. A request
/// `POST /drain` begins the shutdown.
#[derive(Debug)]
pub struct AdminServer(HttpServer);

impl AdminServer {
    /// Starts to serve on `listener`. The status page shows the values of `sources`.
    #[must_use]
    pub fn start(
        listener: Listener,
        mut limits: Limits,
        config: &Admin,
        sources: Sources,
        listening: Listening,
    ) -> Self {
        let (left, address) = (listening.left(), listener.address);
        if is_exposed(address, config.public) {
            warn!(
                %address,
                "the admin listener can be reached from other machines, and shows clients and upstreams; \
                 set `admin.public: true` if that is intended"
            );
        }
        limits.header_read_timeout = limits.header_read_timeout.min(LONGEST_HEAD);
        limits.idle = limits.idle.min(LONGEST_SILENCE);
        limits.silence = limits.idle;
        let room = Room::new(ROOM, STREAMS);
        let handler = AdminHandler(Arc::new(Inner {
            numbers: Page::new(sources.metrics.clone()),
            status: Arc::new(Status::new(sources)),
            access: Access::new(config),
            // An event stream sends an event more often than the time limit for silence requires.
            period: feed::PERIOD.min(limits.idle / 2),
            listening,
            complaints: Throttle::default(),
            room: room.clone(),
        }));
        let builder = server::listen([listener], limits)
            .connections(MOST_CONNECTIONS)
            .room(&room)
            .accept_until(left.cancelled_owned());
        let server = server::serve(builder, handler);
        info!(%address, "serving metrics and probes");
        Self(server)
    }
}

/// Returns whether other machines can reach `address`, although the listener is not declared
/// public.
fn is_exposed(address: SocketAddr, public: bool) -> bool {
    !(address.ip().to_canonical().is_loopback() || public)
}

impl Component for AdminServer {
    async fn cleanup(&mut self, cx: &Context) -> Result<(), BoxError> {
        let result = self.0.cleanup(cx).await;
        info!("admin server stopped");
        result
    }

    fn abort(&mut self) {
        self.0.abort();
    }

    fn release(&mut self) {
        self.0.release();
    }
}

#[derive(Clone)]
struct AdminHandler(Arc<Inner>);

struct Inner {
    numbers: Page,
    status: Arc<Status>,
    access: Access,
    period: Duration,
    listening: Listening,
    complaints: Throttle,
    room: Room,
}

impl Handler for AdminHandler {
    type Body = UnsyncBoxBody<Bytes, Infallible>;

    async fn handle(served: Arc<Served<Self>>, request: Request<Upload>) -> Answer {
        let Served { handler, link } = &*served;
        let version = request.version();
        let mut answer = handler.answer(request, link).await;
        // Once another process accepts connections, the clients' next requests should reach it.
        if handler.0.listening.left().is_cancelled() {
            server::ask_to_close(version, &mut answer);
        }
        answer
    }
}

impl AdminHandler {
    async fn answer(&self, request: Request<Upload>, link: &Link) -> Answer {
        if let Err(fault) = request::check(&request) {
            return boxed(fault.response(None));
        }
        let mut answer = match (request.method(), request.uri().path()) {
            (&Method::OPTIONS, _) => boxed(options()),
            (&Method::GET | &Method::HEAD, "/metrics") => self.0.metrics(),
            // An answer shows that the process lives. A draining process must not be killed for
            // being unready.
            (&Method::GET | &Method::HEAD, "/livez") => text(StatusCode::OK, "live\n"),
            (&Method::GET | &Method::HEAD, "/readyz") => self.0.readyz(),
            (_, "/" | "/status" | "/events" | "/drain") if !self.0.access.is_own_host(&request) => {
                text(
                    StatusCode::FORBIDDEN,
                    "unknown host name; allowed names are in `admin.hosts`\n",
                )
            }
            (&Method::GET | &Method::HEAD, "/") => return boxed(page::response()),
            (&Method::GET | &Method::HEAD, "/status") => self.0.status(),
            (&Method::GET | &Method::HEAD, "/events") => self.0.events(link),
            (&Method::POST, "/drain") => self.0.drain(&request, link).await,
            (_, "/drain") => method_not_allowed("POST"),
            (&Method::GET | &Method::HEAD, _) => text(StatusCode::NOT_FOUND, PATHS),
            _ => method_not_allowed("GET, HEAD"),
        };
        page::harden(answer.headers_mut());
        answer
    }
}

impl Inner {
    fn metrics(&self) -> Answer {
        with_type(metrics::CONTENT_TYPE, self.numbers.text())
    }

    /// Answers whether this address should get requests. A draining process is unready, unless
    /// another process already serves on the same address. A probe that still reaches the draining
    /// process must not make the address look unready.
    fn readyz(&self) -> Answer {
        let readiness = &self.status.sources().readiness;
        let state = readiness.state();
        let status = if readiness.is_ready() || self.listening.left().is_cancelled() {
            StatusCode::OK
        } else {
            StatusCode::SERVICE_UNAVAILABLE
        };
        text(status, format!("{state}\n"))
    }

    fn status(&self) -> Answer {
        with_type("application/json", self.status.json())
    }

    fn events(&self, link: &Link) -> Answer {
        let Some(stay) = self.room.stay(&link.connection) else {
            let mut full = text(StatusCode::SERVICE_UNAVAILABLE, "too many event streams\n");
            let close = HeaderValue::from_static("close");
            full.headers_mut().insert(CONNECTION, close);
            return full;
        };
        let events = feed::stream(
            self.status.clone(),
            self.period,
            link.connection.connection().clone(),
        );
        let events = stay.body(Box::pin(StreamBody::new(events)));
        let mut answer = Response::new(events.boxed_unsync());
        let kind = HeaderValue::from_static("text/event-stream");
        answer.headers_mut().insert(CONTENT_TYPE, kind);
        answer
    }

    /// Begins the shutdown if the request has the token. No further check is needed, since a page
    /// of another site cannot set the `Authorization` field.
    async fn drain(&self, request: &Request<Upload>, link: &Link) -> Answer {
        let peer = link.peer;
        let denied = match self.access.allows(request).await {
            Ok(()) => {
                let first = self.status.sources().handle.request(Reason::Requested);
                info!(%peer, first, "drain requested at the admin listener");
                let said = if first {
                    "draining\n"
                } else {
                    "already draining\n"
                };
                return text(StatusCode::ACCEPTED, said);
            }
            Err(denied) => denied,
        };
        if self.complaints.allows() {
            warn!(%peer, ?denied, "drain request denied");
        }
        let (status, said) = match denied {
            Denied::Disabled => (
                StatusCode::FORBIDDEN,
                "disabled: neither `admin.token` nor `admin.token_file` is configured\n",
            ),
            Denied::Anonymous => (
                StatusCode::UNAUTHORIZED,
                "send the token: `Authorization: Bearer …`\n",
            ),
            Denied::Wrong => (StatusCode::UNAUTHORIZED, "wrong token\n"),
            Denied::Broken => (
                StatusCode::SERVICE_UNAVAILABLE,
                "the token file cannot be used; the log says why\n",
            ),
        };
        let mut answer = text(status, said);
        if status == StatusCode::UNAUTHORIZED {
            let bearer = HeaderValue::from_static("Bearer");
            answer.headers_mut().insert(WWW_AUTHENTICATE, bearer);
        }
        answer
    }
}

fn boxed(response: Response<Full<Bytes>>) -> Answer {
    response.map(BodyExt::boxed_unsync)
}

fn text(status: StatusCode, text: impl Into<Bytes>) -> Answer {
    boxed(plain(status, text))
}

fn with_type(kind: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = text(StatusCode::OK, body);
    let kind = HeaderValue::from_static(kind);
    answer.headers_mut().insert(CONTENT_TYPE, kind);
    answer
}

fn method_not_allowed(methods: &'static str) -> Answer {
    let mut answer = text(
        StatusCode::METHOD_NOT_ALLOWED,
        format!("allowed methods: {methods}\n"),
    );
    let methods = HeaderValue::from_static(methods);
    answer.headers_mut().insert(ALLOW, methods);
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reachable_admin_listener_is_warned_about_unless_it_is_public() {
        for (address, public, exposed) in [
            ("127.0.0.1:1", false, false),
            ("[::1]:1", false, false),
            ("[::ffff:127.0.0.1]:1", false, false),
            ("0.0.0.0:1", false, true),
            ("[::]:1", false, true),
            ("192.0.2.1:1", false, true),
            ("0.0.0.0:1", true, false),
        ] {
            let given = address.parse().unwrap();
            assert_eq!(is_exposed(given, public), exposed, "{address} {public}");
        }
    }
}
