//! A server of either kind, which can be stopped and timed.

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
    /// `HttpServer`.
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

/// The time after which a stop hangs: longer than every limit during the drain, shorter than every other limit.
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
                // Shorter than the default of 30 s, so that it passes within the cap.
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

    /// Stops the server. Returns the time of the stop, or `None` if the server had not ended after [`CAP`].
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
