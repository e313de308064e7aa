//! Upgrades of connections that the server counts, drains and cuts with the connection.

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

/// The error that a request cannot be upgraded: no [`HttpServer`](crate::HttpServer) received it, or its connection has
/// ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotUpgradable;

/// Runs `serve` on the connection once `request` is upgraded, which is when its response (101, or 200 to a CONNECT) is
/// sent.
///
/// This calls [`Upgrade::take`] and then [`Upgrade::run`].
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
/// [`NotUpgradable`] if the request cannot be upgraded. `serve` is dropped then.
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
/// A service that must ask another server first, as a proxy asks its upstream, takes the upgrade from the request. It
/// runs the upgrade once it knows that the response is a 101 (or a 200 to a CONNECT). An [`Upgrade`] that is dropped
/// does nothing.
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

    /// Runs `serve` once the response is sent, as a part of the connection: `serve` is counted, named, drained and cut
    /// with the connection.
    ///
    /// `serve` should end soon after [`cancelled`](lifecycle_runtime::Connection::cancelled); at the deadline it is
    /// aborted. An error that it returns becomes the error of the connection, which is logged and counted in
    /// [`ConnectionStats::failed`](lifecycle_runtime::ConnectionStats::failed).
    ///
    /// The server also awaits upgrades that another library serves (axum's `WebSocketUpgrade`, for example), until
    /// their stream is dropped. It closes their socket at the deadline, but cannot abort the task of that library.
    ///
    /// # Errors
    ///
    /// [`NotUpgradable`] if the connection has ended. `serve` is dropped then.
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

/// The upgrades of one connection, which the connection runs or waits for.
#[derive(Default)]
pub(crate) struct Upgrades(Mutex<State>);

#[derive(Default)]
struct State {
    /// The upgrade that runs after the last response over HTTP/1.1.
    next: Option<Following>,
    /// Whether the connection's task has ended, so that nothing would run another upgrade.
    ended: bool,
    /// A channel that the first upgraded HTTP/2 stream creates. Each upgraded stream holds a sender, so the receiver
    /// learns when all have ended.
    streams: Option<(Sender<()>, Receiver<()>)>,
    /// The first error of an upgraded HTTP/2 stream.
    failed: Option<BoxError>,
}

impl Upgrades {
    /// Keeps the upgrade that runs after the response to the current request, over HTTP/1.1. Fails if the connection's
    /// task has ended.
    pub(crate) fn follow(
        &self,
        next: impl Future<Output = Result<(), BoxError>> + Send + 'static,
    ) -> Result<(), NotUpgradable> {
        let mut state = self.state();
        if state.ended {
            return Err(NotUpgradable);
        }
        let before = state.next.replace(Box::pin(next));
        // An earlier request left the upgrade in `before`: it was answered without an upgrade. The drop of `before`
        // runs code of the service, so the lock is released first.
        drop(state);
        drop(before);
        Ok(())
    }

    /// Drops the upgrade that was to run after the last HTTP/1.1 response, because the connection's task has ended. The
    /// upgrade holds the connection that holds it, so both would stay for ever.
    pub(crate) fn abandon(&self) {
        let next = {
            let mut state = self.state();
            state.ended = true;
            state.next.take()
        };
        // The drop of `next` runs code of the service, so the lock is released first.
        drop(next);
    }

    /// Returns a guard. The connection does not end until the guard is dropped.
    pub(crate) fn hold(&self) -> Sender<()> {
        let mut state = self.state();
        state.streams.get_or_insert_with(|| channel(1)).0.clone()
    }

    pub(crate) fn fail(&self, error: BoxError) {
        self.state().failed.get_or_insert(error);
    }

    /// Runs the upgrade that comes after the last HTTP/1.1 response, and waits for the HTTP/2 streams that were
    /// upgraded.
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
            // No value is ever sent, so `recv` returns when the last sender is dropped.
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
