//! Upgrades that the server knows of.

use std::fmt;
use std::future::Future;

use http::Request;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tracing::debug;

use crate::HttpConnection;

/// The request cannot be upgraded here: it did not come by an [`HttpServer`](crate::HttpServer), or that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotUpgradable;

/// Runs `serve` on the connection once `request` is upgraded: once the response (101, or 200 to a CONNECT) is sent.
///
/// The task belongs to the server, which awaits it while draining; `serve` should end soon after
/// [`cancelled`](lifecycle_runtime::Connection::cancelled). At the deadline it is aborted, and awaited.
///
/// Upgrades that are served otherwise (axum's `WebSocketUpgrade`, say) are awaited too, until their stream is dropped,
/// and their socket is closed at the deadline; but the task that serves them is its framework's.
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
    F: Future<Output = ()> + Send + 'static,
{
    let connection = request
        .extensions()
        .get::<HttpConnection>()
        .cloned()
        .ok_or(NotUpgradable)?;
    let name = format!(
        "{} {} from {}",
        request.method(),
        request.uri().path(),
        connection.peer()
    );
    let upgrade = hyper::upgrade::on(request);
    let upgrades = connection.link().common.upgrades.clone();
    let task = async move {
        match upgrade.await {
            Ok(upgraded) => serve(TokioIo::new(upgraded), connection).await,
            Err(error) => {
                debug!(connection = %connection.connection(), %error, "an upgrade did not happen")
            }
        }
    };
    upgrades.spawn(name, task).map_err(|_| NotUpgradable)
}

impl fmt::Display for NotUpgradable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the request cannot be upgraded on this server")
    }
}

impl std::error::Error for NotUpgradable {}
