//! The listener that serves the metrics, until the very end of a shutdown.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request, Response, StatusCode};
use lifecycle_runtime::{BoxError, Component, Context, Plan};
use tracing::info;

use crate::activity::Limits;
use crate::body::Upload;
use crate::connection::{Handler, Link};
use crate::fault::{options, plain};
use crate::listener::BindError;
use crate::metrics::{self, Metrics, Page};
use crate::side::SideServer;

/// Scrapers are few.
const MOST_CONNECTIONS: NonZeroUsize = const { NonZeroUsize::new(64).unwrap() };

/// Serves `GET /metrics`.
#[derive(Debug)]
pub struct MetricsServer(SideServer);

impl MetricsServer {
    /// Listens on `address`.
    ///
    /// # Errors
    ///
    /// When the address cannot be listened on.
    pub async fn start(
        address: SocketAddr,
        limits: Limits,
        metrics: Arc<Metrics>,
    ) -> Result<Self, BindError> {
        let handler = Scrape(Arc::new(Page::new(metrics)));
        let server = SideServer::start(address, MOST_CONNECTIONS, limits, handler).await?;
        info!(address = %server.address(), "serving metrics");
        Ok(Self(server))
    }
}

impl Component for MetricsServer {
    const PLAN: Plan = SideServer::PLAN;

    async fn cleanup(&mut self, cx: &Context) -> Result<(), BoxError> {
        let result = self.0.cleanup(cx).await;
        info!("metrics server stopped");
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
struct Scrape(Arc<Page>);

impl Handler for Scrape {
    type Body = Full<Bytes>;

    async fn handle(&self, request: Request<Upload>, _: Link) -> Response<Full<Bytes>> {
        match (request.method(), request.uri().path()) {
            (&Method::GET | &Method::HEAD, "/metrics") => {
                let mut response = plain(StatusCode::OK, self.0.text());
                let kind = HeaderValue::from_static(metrics::CONTENT_TYPE);
                response.headers_mut().insert(CONTENT_TYPE, kind);
                response
            }
            (&Method::GET | &Method::HEAD, _) => plain(StatusCode::NOT_FOUND, "see /metrics\n"),
            (&Method::OPTIONS, _) => options(),
            _ => plain(StatusCode::METHOD_NOT_ALLOWED, "only GET is answered\n"),
        }
    }
}
