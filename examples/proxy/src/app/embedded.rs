//! The demo upstream, an HTTP server that is started when no upstream is configured.

use std::num::NonZeroUsize;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Request, Response, StatusCode};
use lifecycle_http::{BodyError, HttpServer, Limits};
use tokio::time::{Interval, interval};

use crate::inbound::body::Upload;
use crate::inbound::listener::{self, BindError};
use crate::inbound::server::{self, Handler, Served};
use crate::inbound::sockets::Listener;

/// The help text, which lists the paths of the demo upstream.
pub const ROUTES: &str = "\
/                  a greeting
/slow?seconds=3    a line every 100 ms, for 3 s
/big?mb=20         20 MiB
/echo              the request's body, as it arrives
/status/503        that status
";

const TICK: Duration = Duration::from_millis(100);
const TICKS_A_SECOND: u64 = 10;
const LONGEST_SLOW: u64 = 3600;
const MIB: u64 = 1 << 20;
const MOST_MIB: u64 = 10_000;

/// The content that `/big` repeats. Its length divides a MiB, so the pattern is not broken at the
/// end of a piece.
static CHUNK: [u8; 64 * 1024] = {
    let mut chunk = [0; 64 * 1024];
    let mut index = 0;
    while index < chunk.len() {
        chunk[index] = if index % 64 == 63 {
            b'\n'
        } else {
            b'0' + (index % 64) as u8
        };
        index += 1;
    }
    chunk
};

/// The connection limit of the demo upstream. It is higher than the proxy's default limit.
const MOST_CONNECTIONS: NonZeroUsize = const { NonZeroUsize::new(1 << 20).unwrap() };

/// Starts the demo upstream on a free port of the loopback interface.
///
/// # Errors
///
/// When there is no free port.
pub async fn start(limits: Limits) -> Result<HttpServer, BindError> {
    let (socket, address) = listener::bind(([127, 0, 0, 1], 0).into()).await?;
    let listener = Listener {
        socket: Arc::new(socket),
        address,
    };
    let builder = server::listen([listener], limits).connections(MOST_CONNECTIONS);
    Ok(server::serve(builder, Demo))
}

#[derive(Clone, Copy)]
struct Demo;

impl Handler for Demo {
    type Body = DemoBody;

    async fn handle(_: Arc<Served<Self>>, request: Request<Upload>) -> Response<DemoBody> {
        let query = request.uri().query();
        let path = request.uri().path();
        match path {
            "/" => text(StatusCode::OK, "Hello from behind the proxy.\n"),
            "/slow" => match number(query, "seconds", 3, LONGEST_SLOW) {
                Some(seconds) => Response::new(DemoBody::ticks(seconds * TICKS_A_SECOND)),
                None => text(StatusCode::BAD_REQUEST, "seconds: a number up to 3600\n"),
            },
            "/big" => match number(query, "mb", 20, MOST_MIB) {
                Some(mib) => Response::new(DemoBody::Alphabet { left: mib * MIB }),
                None => text(StatusCode::BAD_REQUEST, "mb: a number up to 10000\n"),
            },
            "/echo" => echo(request),
            _ => match path.strip_prefix("/status/").map(str::parse) {
                Some(Ok(status)) => status_only(status),
                _ => text(StatusCode::NOT_FOUND, ROUTES),
            },
        }
    }
}

fn text(status: StatusCode, text: &'static str) -> Response<DemoBody> {
    let mut response = Response::new(DemoBody::Text(text));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

/// Returns a short response with `status`. Refuses interim statuses, since they cannot be a final
/// response.
fn status_only(status: StatusCode) -> Response<DemoBody> {
    if status.is_informational() {
        return text(StatusCode::BAD_REQUEST, "status: from 200 to 999\n");
    }
    text(status, status.canonical_reason().unwrap_or_default())
}

fn echo(request: Request<Upload>) -> Response<DemoBody> {
    let (mut parts, body) = request.into_parts();
    let mut response = Response::new(DemoBody::Echo(body));
    if let Some(kind) = parts.headers.remove(CONTENT_TYPE) {
        response.headers_mut().insert(CONTENT_TYPE, kind);
    }
    response
}

/// Returns the value of `key` in a query, or `default` without one. Returns `None` if the value is
/// no number up to `most`.
fn number(query: Option<&str>, key: &str, default: u64, most: u64) -> Option<u64> {
    let value = query.and_then(|query| {
        query
            .split('&')
            .find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='))
    });
    match value {
        None => Some(default),
        Some(text) => text.parse().ok().filter(|number| *number <= most),
    }
}

#[derive(Debug)]
enum DemoBody {
    Text(&'static str),
    Ticks {
        clock: Interval,
        next: u64,
        last: u64,
    },
    Alphabet {
        left: u64,
    },
    Echo(Upload),
}

impl DemoBody {
    fn ticks(last: u64) -> Self {
        Self::Ticks {
            clock: interval(TICK),
            next: 1,
            last,
        }
    }
}

impl Body for DemoBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let data = match &mut *self {
            Self::Echo(body) => return Pin::new(body).poll_frame(cx),
            Self::Text("") => None,
            Self::Text(text) => Some(Bytes::from_static(std::mem::take(text).as_bytes())),
            Self::Ticks { next, last, .. } if *next > *last => None,
            Self::Ticks { clock, next, last } => {
                ready!(clock.poll_tick(cx));
                let line = format!("tick {next} of {last}\n");
                *next += 1;
                Some(line.into())
            }
            Self::Alphabet { left: 0 } => None,
            Self::Alphabet { left } => {
                let length = CHUNK
                    .len()
                    .min(usize::try_from(*left).unwrap_or(usize::MAX));
                *left -= length as u64;
                Some(Bytes::from_static(&CHUNK[..length]))
            }
        };
        Poll::Ready(data.map(|data| Ok(Frame::data(data))))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Text(text) => SizeHint::with_exact(text.len() as u64),
            Self::Alphabet { left } => SizeHint::with_exact(*left),
            Self::Echo(body) => body.size_hint(),
            Self::Ticks { .. } => SizeHint::default(),
        }
    }
}
