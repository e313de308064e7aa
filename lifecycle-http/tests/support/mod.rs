//! A server for tests, and clients that send exactly the bytes of the test.
#![allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    reason = "each test uses a part of it"
)]

mod place;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full, StreamBody};
use hyper::body::Frame;
use lifecycle_http::{
    Handshake, HttpBuilder, HttpConnection, HttpServer, Limits, RequestBody, upgrade_tracked,
};
use lifecycle_runtime::{BoxError, Component, Context, Reason};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::{Semaphore, broadcast};

pub use place::{Place, SocketFile, has_queued, unix};

pub type Body = UnsyncBoxBody<Bytes, BoxError>;

/// The handles by which a test controls the server's handlers.
#[derive(Clone)]
pub struct Stage {
    /// A semaphore with a permit for each request to `/hold` that may be answered.
    pub release: Arc<Semaphore>,
    /// A semaphore with a permit for each request that has reached a handler.
    pub reached: Arc<Semaphore>,
    /// The channel of the events that `/events` sends.
    pub events: broadcast::Sender<&'static str>,
}

/// A server, and the place where it listens.
pub struct Site<P = SocketFile> {
    pub http: HttpServer,
    pub stage: Stage,
    pub place: P,
}

/// Starts a server on a unix socket.
pub fn site(limits: Limits) -> Site {
    site_of(limits, 1_000)
}

pub fn site_of(limits: Limits, connections: usize) -> Site {
    let (listener, place) = unix();
    let most = NonZeroUsize::new(connections).unwrap();
    let builder = HttpServer::from_listener(listener);
    serve(builder.connections(most).limits(limits), place)
}

/// Starts a server on a TCP socket. Its clients can connect only while time is not paused: see [`unix`].
pub async fn tcp_site(limits: Limits) -> Site<SocketAddr> {
    let builder = HttpServer::bind("127.0.0.1:0").await.unwrap();
    serve_tcp(builder.limits(limits))
}

/// Starts a server whose first socket is a TCP socket.
pub fn serve_tcp<H: Handshake>(builder: HttpBuilder<H>) -> Site<SocketAddr> {
    let Site { http, stage, .. } = serve(builder, ());
    let place = http.addresses()[0];
    Site { http, stage, place }
}

pub fn serve<H: Handshake, P>(builder: HttpBuilder<H>, place: P) -> Site<P> {
    let stage = Stage {
        release: Arc::new(Semaphore::new(0)),
        reached: Arc::new(Semaphore::new(0)),
        events: broadcast::Sender::new(16),
    };
    let handlers = stage.clone();
    let http = builder.serve_hyper(hyper::service::service_fn(move |request| {
        let stage = handlers.clone();
        async move { Ok::<_, Infallible>(stage.answer(request).await) }
    }));
    Site { http, stage, place }
}

impl<P: Place> Site<P> {
    pub async fn client(&self) -> Client<P::Stream> {
        Client::of(&self.place).await
    }
}

impl<P> Site<P> {
    /// Shuts the server down within a minute.
    pub async fn stop(&self) -> Result<(), BoxError> {
        self.stop_within(Duration::from_secs(60)).await
    }

    pub async fn stop_within(&self, within: Duration) -> Result<(), BoxError> {
        let cx = Context::new(Reason::Requested, within);
        (&self.http).cleanup(&cx).await
    }

    /// Waits until a request has reached its handler.
    pub async fn reached(&self) {
        self.stage.reached.acquire().await.unwrap().forget();
    }

    /// Waits until the server has told all open connections to close.
    pub async fn told(&self) {
        while self
            .http
            .connections()
            .any(|connection| connection.close_reason().is_none())
        {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Waits until the server has exactly `active` connections.
    pub async fn has(&self, active: usize) {
        while self.http.stats().active != active {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

impl Stage {
    async fn answer(&self, mut request: Request<RequestBody>) -> Response<Body> {
        self.reached.add_permits(1);
        match (request.method(), request.uri().path()) {
            (&Method::POST, "/upload") => match request.collect().await {
                Ok(body) => text(body.to_bytes().len().to_string()),
                Err(error) => {
                    let mut response = text(error.to_string());
                    *response.status_mut() = StatusCode::REQUEST_TIMEOUT;
                    response
                }
            },
            (_, "/hold") => {
                self.release.acquire().await.unwrap().forget();
                text("held".into())
            }
            (_, "/stuck") => std::future::pending().await,
            (_, "/big") => text("x".repeat(20 << 20)),
            (_, "/events") => {
                let events = self.events.subscribe();
                let mut response = Response::new(stream(events));
                let kind = http::HeaderValue::from_static("text/event-stream");
                response
                    .headers_mut()
                    .insert(http::header::CONTENT_TYPE, kind);
                response
            }
            (_, "/endless") => Response::new(stream(self.events.subscribe())),
            (&Method::CONNECT, _) | (_, "/echo") => {
                upgrade_tracked(&mut request, echo).unwrap();
                upgraded(&request)
            }
            // The task of this upgrade is unknown to the server, as with an upgrade of another library.
            (_, "/foreign") => {
                let upgrade = hyper::upgrade::on(&mut request);
                let stage = self.clone();
                tokio::spawn(async move {
                    let held = upgrade.await.unwrap();
                    stage.release.acquire().await.unwrap().forget();
                    drop(held);
                });
                upgraded(&request)
            }
            _ => text("hello".into()),
        }
    }
}

fn upgraded(request: &Request<RequestBody>) -> Response<Body> {
    let mut response = Response::new(Empty::new().map_err(|never| match never {}).boxed_unsync());
    if request.method() != Method::CONNECT {
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        let headers = response.headers_mut();
        headers.insert(
            http::header::UPGRADE,
            http::HeaderValue::from_static("echo"),
        );
        headers.insert(
            http::header::CONNECTION,
            http::HeaderValue::from_static("upgrade"),
        );
    }
    response
}

/// Echoes bytes until the connection should close. Then sends "bye", and waits until the client closes.
async fn echo(
    stream: hyper_util::rt::TokioIo<hyper::upgrade::Upgraded>,
    connection: HttpConnection,
) {
    let (mut read, mut write) = tokio::io::split(stream);
    let mut buffer = [0; 64];
    let mut closing = std::pin::pin!(connection.cancelled());
    let mut told = false;
    loop {
        tokio::select! {
            _ = &mut closing, if !told => {
                told = true;
                if write.write_all(b"bye").await.is_err() { return }
            }
            got = read.read(&mut buffer) => match got {
                Ok(0) | Err(_) => return,
                Ok(length) => if write.write_all(&buffer[..length]).await.is_err() { return },
            }
        }
    }
}

fn text(text: String) -> Response<Body> {
    Response::new(
        Full::from(text)
            .map_err(|never| match never {})
            .boxed_unsync(),
    )
}

fn stream(events: broadcast::Receiver<&'static str>) -> Body {
    let stream = futures_util::stream::unfold(events, async |mut events| {
        let event = events.recv().await.ok()?;
        Some((Ok(Frame::data(Bytes::from(event))), events))
    });
    StreamBody::new(stream).boxed_unsync()
}

/// A client over a plain socket, which the test writes to and reads from by hand.
pub struct Client<S = UnixStream>(pub S);

pub const GET: &str = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    pub async fn of<P: Place<Stream = S>>(place: &P) -> Self {
        Self(place.connect().await.unwrap())
    }

    pub async fn says(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.unwrap();
    }

    pub async fn gets(&mut self, path: &str) {
        self.says(&format!("GET {path} HTTP/1.1\r\nhost: a\r\n\r\n"))
            .await;
    }

    /// Reads one response, of the length that its `content-length` gives.
    pub async fn hears(&mut self) -> String {
        let mut text = self.hears_until("\r\n\r\n").await;
        let length = text
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "));
        let mut body = vec![0; length.unwrap_or("0").parse().unwrap()];
        self.0.read_exact(&mut body).await.unwrap();
        text.push_str(std::str::from_utf8(&body).unwrap());
        text
    }

    pub async fn hears_until(&mut self, end: &str) -> String {
        let mut bytes = Vec::new();
        while !bytes.ends_with(end.as_bytes()) {
            match self.0.read_u8().await {
                Ok(byte) => bytes.push(byte),
                Err(error) => panic!("{error} after {:?}", String::from_utf8_lossy(&bytes)),
            }
        }
        String::from_utf8(bytes).unwrap()
    }

    /// Reads all bytes until the server closes the connection.
    pub async fn hears_all(&mut self) -> String {
        let mut bytes = Vec::new();
        self.0.read_to_end(&mut bytes).await.unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Waits for the next byte. Returns whether the connection ends instead; a reset is an end, too.
    pub async fn is_closed(&mut self) -> bool {
        matches!(self.0.read(&mut [0; 1]).await, Ok(0) | Err(_))
    }
}
