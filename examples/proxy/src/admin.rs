//! The listener for those who look after the proxy: metrics and probes, until
//! the very end of a shutdown.

use std::num::NonZeroUsize;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use lifecycle_runtime::{BoxError, Component, Context, Plan, Readiness};
use tracing::info;

use crate::activity::Limits;
use crate::body::Upload;
use crate::connection::{Handler, Link};
use crate::fault::{options, plain};
use crate::metrics::{self, Metrics, Page};
use crate::side::SideServer;
use crate::sockets::{Listener, Listening};

/// Scrapers are few.
const MOST_CONNECTIONS: NonZeroUsize = const { NonZeroUsize::new(64).unwrap() };

/// Serves `GET /metrics`, `/livez` and `/readyz`.
#[derive(Debug)]
pub struct AdminServer(SideServer);

impl AdminServer {
    /// Accepts from `listener`, which is one of `listening`.
    #[must_use]
    pub fn start(
        listener: Listener,
        limits: Limits,
        metrics: Arc<Metrics>,
        readiness: Readiness,
        listening: Listening,
    ) -> Self {
        let left = listening.left();
        let handler = Desk {
            page: Arc::new(Page::new(metrics)),
            readiness,
            listening,
        };
        let server = SideServer::start(listener, left, MOST_CONNECTIONS, limits, handler);
        info!(address = %server.address(), "serving metrics and probes");
        Self(server)
    }
}

impl Component for AdminServer {
    const PLAN: Plan = SideServer::PLAN;

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
struct Desk {
    page: Arc<Page>,
    readiness: Readiness,
    listening: Listening,
}

impl Desk {
    /// Whether requests should be sent here; while it drains they should not.
    fn readyz(&self) -> Response<Full<Bytes>> {
        let state = self.readiness.state();
        let status = if self.readiness.is_ready() {
            StatusCode::OK
        } else {
            StatusCode::SERVICE_UNAVAILABLE
        };
        plain(status, format!("{state}\n"))
    }
}

impl Handler for Desk {
    type Body = Full<Bytes>;

    async fn handle(&self, request: Request<Upload>, _: Link) -> Response<Full<Bytes>> {
        match (request.method(), request.uri().path()) {
            (&Method::GET | &Method::HEAD, "/metrics") => {
                let mut response = plain(StatusCode::OK, self.page.text());
                let kind = HeaderValue::from_static(metrics::CONTENT_TYPE);
                response.headers_mut().insert(CONTENT_TYPE, kind);
                response
            }
            // Live is whoever answers: what drains must not be killed for it.
            (&Method::GET | &Method::HEAD, "/livez") => plain(StatusCode::OK, "live\n"),
            (&Method::GET | &Method::HEAD, "/readyz") => self.readyz(),
            (&Method::GET | &Method::HEAD, _) => {
                plain(StatusCode::NOT_FOUND, "see /metrics, /livez, /readyz\n")
            }
            (&Method::OPTIONS, _) => options(),
            _ => plain(StatusCode::METHOD_NOT_ALLOWED, "only GET is answered\n"),
        }
    }

    /// Once another process accepts, it is that one which should be asked.
    fn is_pressed(&self) -> bool {
        self.listening.left().is_cancelled()
    }
}
