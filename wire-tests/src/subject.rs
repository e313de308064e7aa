//! A server under test, which is axum's own or `HttpServer`. It can be shut down and timed.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use lifecycle_http::{HttpServer, Limits};
use lifecycle_runtime::{Component, Context, Reason};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::app::app;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// axum's own server: `axum::serve(…).with_graceful_shutdown(…)`.
    Plain,
    /// The `HttpServer` of `lifecycle-http`.
    Ours,
}

pub struct Subject {
    pub kind: Kind,
    pub address: SocketAddr,
    server: Server,
}

enum Server {
    Plain(oneshot::Sender<()>, JoinHandle<()>),
    Ours(HttpServer),
}

/// The time after which a shutdown counts as hanging. It is longer than every limit during the drain, and shorter than
/// every other limit.
pub const CAP: Duration = Duration::from_secs(5);

impl Subject {
    pub async fn start(kind: Kind) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        let server = match kind {
            Kind::Ours => {
                let mut limits = Limits::default();
                // The limit is shorter than its default of 30 s, so that it passes within `CAP`.
                limits.stall = Duration::from_secs(2);
                Server::Ours(
                    HttpServer::from_listener(listener)
                        .limits(limits)
                        .serve(app()),
                )
            }
            Kind::Plain => {
                let (stop, stopped) = oneshot::channel();
                let serve = axum::serve(listener, app()).with_graceful_shutdown(async {
                    let _ = stopped.await;
                });
                Server::Plain(
                    stop,
                    tokio::spawn(async { serve.await.expect("it serves") }),
                )
            }
        };
        Self {
            kind,
            address,
            server,
        }
    }

    /// Shuts the server down. Returns the time that this took, or `None` if the server had not ended after [`CAP`].
    pub async fn stop(self) -> Option<Duration> {
        let start = Instant::now();
        let ended = match self.server {
            Server::Plain(stop, serving) => {
                let _ = stop.send(());
                timeout(CAP, serving).await.is_ok()
            }
            Server::Ours(mut http) => {
                let cx = Context::new(Reason::Requested, CAP * 2);
                timeout(CAP, http.cleanup(&cx)).await.is_ok()
            }
        };
        ended.then(|| start.elapsed())
    }
}
