//! WebSockets that send their client the close code 1001 when the server shuts down.

use std::fmt;
use std::future::Future;
use std::pin::{Pin, pin};

use futures_util::future::{Either, select};
use futures_util::{SinkExt as _, StreamExt as _};
use http::header::{
    CONNECTION, HeaderName, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use lifecycle_runtime::CloseReason;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role};

use crate::{HttpConnection, upgrade_tracked};

pub use tokio_tungstenite::tungstenite::{Error, Message};

/// A WebSocket of an [`HttpServer`](crate::HttpServer).
pub struct WebSocket {
    stream: WebSocketStream<TokioIo<Upgraded>>,
    connection: HttpConnection,
    closing: Pin<Box<dyn Future<Output = ()> + Send>>,
    phase: Phase,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    Open,
    /// The client was sent a close frame, and has until this time to close.
    Leaving(Instant),
    Ended,
}

/// The error that a request does not ask for a WebSocket that this server can open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotWebSocket;

/// Answers the request for a WebSocket, over HTTP/1.1 or HTTP/2 (RFC 8441), and runs `serve` with the WebSocket on a
/// task that the server awaits: see [`upgrade_tracked`].
///
/// The returned response has no body; map it to a body of your type. A message may have 64 MiB and a frame 16 MiB,
/// which are the defaults of tungstenite.
///
/// ```
/// use http::{Request, Response};
/// use lifecycle_http::{RequestBody, ws};
///
/// fn answer(mut request: Request<RequestBody>) -> Result<Response<String>, ws::NotWebSocket> {
///     let response = ws::upgrade(&mut request, async |mut socket| {
///         while let Some(Ok(message)) = socket.next().await {
///             if message.is_text() && socket.send(message).await.is_err() {
///                 return;
///             }
///         }
///     })?;
///     Ok(response.map(|()| String::new()))
/// }
/// ```
///
/// # Errors
///
/// [`NotWebSocket`] if the request does not ask for a WebSocket. Answer it with status 400.
pub fn upgrade<B, F>(
    request: &mut Request<B>,
    serve: impl FnOnce(WebSocket) -> F + Send + 'static,
) -> Result<Response<()>, NotWebSocket>
where
    F: Future<Output = ()> + Send + 'static,
{
    let response = accept(request)?;
    upgrade_tracked(request, async move |stream, connection| {
        let stream = WebSocketStream::from_raw_socket(stream, Role::Server, None).await;
        serve(WebSocket::new(stream, connection)).await;
    })
    .map_err(|_| NotWebSocket)?;
    Ok(response)
}

fn accept<B>(request: &Request<B>) -> Result<Response<()>, NotWebSocket> {
    let headers = request.headers();
    if headers
        .get(SEC_WEBSOCKET_VERSION)
        .is_none_or(|version| version != "13")
    {
        return Err(NotWebSocket);
    }
    let mut response = Response::new(());
    #[cfg(feature = "h2")]
    if request.method() == Method::CONNECT {
        let asked = request.extensions().get::<hyper::ext::Protocol>();
        let asked = asked.is_some_and(|protocol| protocol.as_str() == "websocket");
        return if asked {
            Ok(response)
        } else {
            Err(NotWebSocket)
        };
    }
    let key = headers.get(SEC_WEBSOCKET_KEY).ok_or(NotWebSocket)?;
    if request.method() != Method::GET
        || !says(headers, &UPGRADE, "websocket")
        || !says(headers, &CONNECTION, "upgrade")
    {
        return Err(NotWebSocket);
    }
    let accept =
        HeaderValue::from_str(&derive_accept_key(key.as_bytes())).map_err(|_| NotWebSocket)?;
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    Ok(response)
}

fn says(headers: &HeaderMap, name: &HeaderName, word: &str) -> bool {
    let values = headers
        .get_all(name)
        .into_iter()
        .filter_map(|value| value.to_str().ok());
    values
        .flat_map(|value| value.split(','))
        .any(|token| token.trim().eq_ignore_ascii_case(word))
}

impl WebSocket {
    fn new(stream: WebSocketStream<TokioIo<Upgraded>>, connection: HttpConnection) -> Self {
        let closing = connection.clone();
        Self {
            stream,
            closing: Box::pin(async move {
                if closing.cancelled().await == CloseReason::Drain {
                    // During a drain, all clients reconnect. So they are told to close one after the other, and this
                    // waits for the turn of this client.
                    sleep(closing.link().common.turn()).await;
                }
            }),
            connection,
            phase: Phase::Open,
        }
    }

    /// Returns the next message. Returns `None` once the client has closed, or its time to close is over.
    ///
    /// When the server shuts down, this sends the client a close frame with the code 1001. The close frames of several
    /// clients are [`Limits::spread`](crate::Limits::spread) apart. The client has
    /// [`Limits::close_ack_timeout`](crate::Limits::close_ack_timeout) to close, and its messages are still returned
    /// until then.
    ///
    /// # Errors
    ///
    /// When the connection broke, or the client violated the protocol.
    ///
    /// # Cancel safety
    ///
    /// Safe: no message is lost if the future is dropped.
    pub async fn next(&mut self) -> Option<Result<Message, Error>> {
        loop {
            match self.phase {
                Phase::Ended => return None,
                Phase::Open => {
                    match select(pin!(self.stream.next()), self.closing.as_mut()).await {
                        Either::Left((message, _)) => return message,
                        Either::Right(_) => {
                            let deadline = Instant::now()
                                + self.connection.link().common.limits.close_ack_timeout;
                            self.phase = Phase::Leaving(deadline);
                            let goodbye = Message::Close(Some(CloseFrame {
                                code: CloseCode::Away,
                                reason: "".into(),
                            }));
                            // The close frame is queued at once. If this future is dropped, the next read flushes it.
                            let _ = timeout_at(deadline, self.stream.send(goodbye)).await;
                        }
                    }
                }
                Phase::Leaving(deadline) => match timeout_at(deadline, self.stream.next()).await {
                    Ok(message) => return message,
                    Err(_) => self.phase = Phase::Ended,
                },
            }
        }
    }

    /// Sends a message, once the client has room for it.
    ///
    /// # Errors
    ///
    /// When the connection broke, or when the client was already sent a close frame.
    ///
    /// # Cancel safety
    ///
    /// Not safe: if the future is dropped, the message is not sent, or is sent later by the next call of `send` or of
    /// [`next`](Self::next).
    pub async fn send(&mut self, message: Message) -> Result<(), Error> {
        self.stream.send(message).await
    }

    /// Returns the connection that the WebSocket belongs to.
    pub fn connection(&self) -> &HttpConnection {
        &self.connection
    }
}

impl fmt::Debug for WebSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WebSocket")
            .field("connection", &self.connection)
            .field("phase", &self.phase)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for NotWebSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the request does not ask for a WebSocket that can be had here")
    }
}

impl std::error::Error for NotWebSocket {}
