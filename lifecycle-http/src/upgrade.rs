//! Upgrades that the server knows of.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};

use http::Request;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use lifecycle_runtime::{BoxError, TaskOutcome, TaskOutput as _};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tracing::debug;

use crate::HttpConnection;

/// The request cannot be upgraded here: it did not come by an [`HttpServer`](crate::HttpServer), or that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotUpgradable;

/// Runs `serve` on the connection once `request` is upgraded: once the response (101, or 200 to a CONNECT) is sent.
///
/// It is [`Upgrade::take`] and [`Upgrade::run`] in one.
///
/// ```
/// use http::{Request, Response, StatusCode};
/// use lifecycle_http::{NotUpgradable, RequestBody, upgrade_tracked};
/// use tokio::io::AsyncWriteExt;
///
/// fn answer(mut request: Request<RequestBody>) -> Result<Response<String>, NotUpgradable> {
///     upgrade_tracked(&mut request, async |mut stream, connection| {
///         let _ = connection.cancelled().await;
///         let _ = stream.write_all(b"bye").await;
///     })?;
///     let mut response = Response::new(String::new());
///     *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
///     Ok(response)
/// }
/// ```
///
/// # Errors
///
/// [`NotUpgradable`]; `serve` is dropped.
pub fn upgrade_tracked<B, F>(
    request: &mut Request<B>,
    serve: impl FnOnce(TokioIo<Upgraded>, HttpConnection) -> F + Send + 'static,
) -> Result<(), NotUpgradable>
where
    F: Future<Output: TaskOutcome> + Send + 'static,
{
    Upgrade::take(request)?.run(serve)
}

/// An upgrade that a request asks for.
///
/// A service that must ask somebody else first, such as a proxy its upstream, takes it from the request, and runs it
/// once it knows that the response is a 101 (or a 200 to a CONNECT). Dropped, it does nothing.
///
/// ```
/// use http::{Request, Response};
/// use lifecycle_http::{NotUpgradable, RequestBody, Upgrade};
/// # async fn ask_upstream() -> Option<(Response<String>, tokio::net::TcpStream)> { None }
///
/// async fn answer(mut request: Request<RequestBody>) -> Result<Response<String>, NotUpgradable> {
///     let upgrade = Upgrade::take(&mut request)?;
///     let Some((response, mut upstream)) = ask_upstream().await else {
///         return Ok(Response::new("no upstream".into()));
///     };
///     upgrade.run(async move |mut client, _| {
///         tokio::io::copy_bidirectional(&mut client, &mut upstream).await.map(drop)
///     })?;
///     Ok(response)
/// }
/// ```
#[derive(Debug)]
#[must_use = "an upgrade that does not run serves nobody"]
pub struct Upgrade {
    upgrade: OnUpgrade,
    connection: HttpConnection,
}

impl Upgrade {
    /// Takes the upgrade out of a request.
    ///
    /// # Errors
    ///
    /// [`NotUpgradable`] if the request did not come by an [`HttpServer`](crate::HttpServer).
    pub fn take<B>(request: &mut Request<B>) -> Result<Self, NotUpgradable> {
        let connection = request
            .extensions()
            .get::<HttpConnection>()
            .cloned()
            .ok_or(NotUpgradable)?;
        let upgrade = hyper::upgrade::on(request);
        Ok(Self {
            upgrade,
            connection,
        })
    }

    /// Runs `serve` once the response is sent, as a part of the connection: it is counted, named, drained and cut with it.
    ///
    /// `serve` should end soon after [`cancelled`](lifecycle_runtime::Connection::cancelled); at the deadline it is aborted.
    /// What it returns as an error is that of the connection: logged, and counted in
    /// [`ConnectionStats::failed`](lifecycle_runtime::ConnectionStats::failed).
    ///
    /// Upgrades that are served otherwise (axum's `WebSocketUpgrade`, say) are awaited too, until their stream is
    /// dropped, and their socket is closed at the deadline; but the task that serves them is its framework's.
    ///
    /// # Errors
    ///
    /// [`NotUpgradable`] once the connection has ended; `serve` is dropped.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn run<F>(
        self,
        serve: impl FnOnce(TokioIo<Upgraded>, HttpConnection) -> F + Send + 'static,
    ) -> Result<(), NotUpgradable>
    where
        F: Future<Output: TaskOutcome> + Send + 'static,
    {
        let Self {
            upgrade,
            connection,
        } = self;
        let link = connection.clone();
        let run = async move {
            match upgrade.await {
                Ok(upgraded) => {
                    let served = serve(TokioIo::new(upgraded), connection).await;
                    served.into_outcome()
                }
                Err(error) => {
                    debug!(connection = %connection.connection(), %error, "an upgrade did not happen");
                    Ok(())
                }
            }
        };
        link.link().run_upgrade(run)
    }
}

type Following = Pin<Box<dyn Future<Output = Result<(), BoxError>> + Send>>;

/// The upgrades of a connection, which it runs or waits for.
#[derive(Default)]
pub(crate) struct Upgrades(Mutex<State>);

#[derive(Default)]
struct State {
    /// The upgrade that follows the last response over HTTP/1.1.
    next: Option<Following>,
    /// Held by streams of HTTP/2 that were upgraded. Made for the first.
    streams: Option<(Sender<()>, Receiver<()>)>,
    /// The first error of such a stream.
    failed: Option<BoxError>,
}

impl Upgrades {
    /// Keeps the upgrade that follows the response to the request that is answered now, over HTTP/1.1.
    pub(crate) fn follow(&self, next: impl Future<Output = Result<(), BoxError>> + Send + 'static) {
        let before = self.state().next.replace(Box::pin(next));
        // The one before was asked for by a request that was answered without an upgrade. Dropping it runs code of the
        // service, so the lock is released first.
        drop(before);
    }

    /// Returns a guard that the connection waits for, until it is dropped.
    pub(crate) fn hold(&self) -> Sender<()> {
        let mut state = self.state();
        state.streams.get_or_insert_with(|| channel(1)).0.clone()
    }

    pub(crate) fn fail(&self, error: BoxError) {
        self.state().failed.get_or_insert(error);
    }

    /// Runs the upgrade that follows HTTP, and waits for streams that were upgraded.
    pub(crate) async fn finish(&self) -> Result<(), BoxError> {
        let (next, streams) = {
            let mut state = self.state();
            (state.next.take(), state.streams.take())
        };
        if let Some(next) = next {
            next.await?;
        }
        if let Some((sender, mut receiver)) = streams {
            drop(sender);
            // No value is ever sent, so this ends with the last sender.
            receiver.recv().await;
        }
        let failed = self.state().failed.take();
        failed.map_or(Ok(()), Err)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Display for NotUpgradable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the request cannot be upgraded on this server")
    }
}

impl std::error::Error for NotUpgradable {}
