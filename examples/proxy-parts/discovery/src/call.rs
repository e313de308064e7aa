//! A single HTTP request to a registry, which uses a connection of its own.

use std::fmt;

use bytes::Bytes;
use futures_util::future::{Either, select};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper::header::{CONNECTION, HOST, HeaderValue};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use lifecycle_runtime::BoxError;
use tokio::net::TcpStream;

use crate::settings::Endpoint;

/// The size of the largest answer of a registry, in bytes.
const LONGEST: usize = 64 * 1024;

/// The reason why a call to a registry failed.
#[derive(Debug)]
pub(super) struct CallError {
    registry: String,
    reason: Reason,
}

#[derive(Debug)]
enum Reason {
    Answered(StatusCode, String),
    Failed(BoxError),
}

impl CallError {
    /// Returns whether the registry answered with this status.
    pub(super) fn is(&self, status: StatusCode) -> bool {
        matches!(self.reason, Reason::Answered(answered, _) if answered == status)
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let registry = &self.registry;
        match &self.reason {
            Reason::Answered(status, text) => write!(f, "{registry} answered {status} {text}"),
            Reason::Failed(error) => write!(f, "{registry}: {error}"),
        }
    }
}

impl std::error::Error for CallError {}

/// Sends `request`, whose URI is a path. Returns the body of the answer, if its status is 2xx.
///
/// # Errors
///
/// When the connection fails, the status is not 2xx, or the body is larger than 64 KiB.
///
/// # Cancel safety
///
/// Dropping the future closes the connection. The registry may have received the request or not.
pub(super) async fn call(
    endpoint: &Endpoint,
    mut request: Request<Full<Bytes>>,
) -> Result<Bytes, CallError> {
    let authority = endpoint.authority().as_str();
    if let Ok(host) = HeaderValue::try_from(authority) {
        request.headers_mut().insert(HOST, host);
    }
    let close = HeaderValue::from_static("close");
    request.headers_mut().insert(CONNECTION, close);
    let failed = |reason| CallError {
        registry: endpoint.to_string(),
        reason,
    };
    match exchange(authority, request).await {
        Ok((status, body)) if status.is_success() => Ok(body),
        Ok((status, body)) => {
            let text: String = String::from_utf8_lossy(&body).chars().take(200).collect();
            Err(failed(Reason::Answered(status, text.trim().to_owned())))
        }
        Err(error) => Err(failed(Reason::Failed(error))),
    }
}

async fn exchange(
    authority: &str,
    request: Request<Full<Bytes>>,
) -> Result<(StatusCode, Bytes), BoxError> {
    let stream = TcpStream::connect(authority).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let answer = std::pin::pin!(async move {
        let (head, body) = sender.send_request(request).await?.into_parts();
        let body = Limited::new(body, LONGEST).collect().await?;
        Ok::<_, BoxError>((head.status, body.to_bytes()))
    });
    // Polls the connection together with the answer, so that the connection ends with the call.
    match select(answer, connection).await {
        Either::Left((answer, _)) => answer,
        Either::Right((ended, answer)) => {
            ended?;
            answer.await
        }
    }
}
