//! Response streams of gRPC messages or of lines, which the server ends between two messages when it shuts down.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::{Body, Frame, SizeHint};
use lifecycle_runtime::Connection;
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::Limits;

/// The rule by which messages of a stream end, and the position of the stream.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Messages {
    /// A gRPC message ends after as many bytes as its prefix says.
    Grpc(Grpc),
    /// A line ends after a line feed. `ended` tells whether the last byte was a line feed, or no byte was sent yet.
    Lines { ended: bool },
}

/// The position in a gRPC stream. A message is a flag of one byte, a length of four bytes, and as many bytes as the
/// length says.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Grpc {
    prefix: [u8; 5],
    filled: usize,
    left: u64,
}

impl Messages {
    pub(crate) fn grpc() -> Self {
        Self::Grpc(Grpc::default())
    }

    pub(crate) const fn lines() -> Self {
        Self::Lines { ended: true }
    }

    fn sent(&mut self, bytes: &[u8]) {
        match self {
            Self::Grpc(grpc) => grpc.sent(bytes),
            Self::Lines { ended } => *ended = bytes.last().map_or(*ended, |last| *last == b'\n'),
        }
    }

    fn is_boundary(&self) -> bool {
        match self {
            Self::Grpc(grpc) => grpc.filled == 0 && grpc.left == 0,
            Self::Lines { ended } => *ended,
        }
    }

    /// Returns the trailers with which the server ends a stream early, if the stream has trailers.
    fn farewell(&self) -> Option<HeaderMap> {
        match self {
            Self::Grpc(_) => Some(unavailable()),
            Self::Lines { .. } => None,
        }
    }
}

impl Grpc {
    fn sent(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.left == 0 {
                self.prefix[self.filled] = bytes[0];
                self.filled += 1;
                bytes = &bytes[1..];
                if self.filled == self.prefix.len() {
                    let [_, length @ ..] = self.prefix;
                    self.left = u32::from_be_bytes(length).into();
                    self.filled = 0;
                }
            } else {
                let part =
                    usize::try_from(self.left).map_or(bytes.len(), |left| left.min(bytes.len()));
                self.left -= part as u64;
                bytes = &bytes[part..];
            }
        }
    }
}

/// Returns the gRPC status UNAVAILABLE, by which clients know that they may retry the call on another server.
fn unavailable() -> HeaderMap {
    const UNAVAILABLE: HeaderValue = HeaderValue::from_static("14");
    const REASON: HeaderValue = HeaderValue::from_static("the server is shutting down");
    let mut trailers = HeaderMap::with_capacity(2);
    trailers.insert(HeaderName::from_static("grpc-status"), UNAVAILABLE);
    trailers.insert(HeaderName::from_static("grpc-message"), REASON);
    trailers
}

pin_project! {
    /// A stream that the server ends between two messages when its connection should close: as soon as the stream is
    /// quiet for a moment, or after a while. Whatever the service sends until then still reaches the client, above all
    /// the status of a call that it answers.
    pub(crate) struct EndingBody<B: Body> {
        #[pin]
        body: Option<B>,
        closing: Pin<Box<dyn Future<Output = ()> + Send>>,
        messages: Messages,
        told: Option<Told>,
        quiet: Duration,
        longest: Duration,
    }
}

struct Told {
    /// The time at which the stream is ended even if it is not quiet.
    last: Instant,
    /// The timer that is ready when the stream was quiet for long enough.
    quiet: Pin<Box<Sleep>>,
}

impl<B: Body> EndingBody<B> {
    pub(crate) fn new(
        body: B,
        messages: Messages,
        connection: &Connection,
        limits: &Limits,
    ) -> Self {
        let connection = connection.clone();
        Self {
            body: Some(body),
            closing: Box::pin(async move {
                connection.cancelled().await;
            }),
            messages,
            told: None,
            quiet: limits.keep_alive_after_drain,
            longest: limits.close_ack_timeout,
        }
    }
}

impl<B: Body> Body for EndingBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let mut this = self.project();
        let Some(body) = this.body.as_mut().as_pin_mut() else {
            return Poll::Ready(None);
        };
        if this.told.is_none() && this.closing.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            *this.told = Some(Told {
                last: now + *this.longest,
                quiet: Box::pin(sleep_until(now + *this.quiet)),
            });
        }
        let frame = match (body.poll_frame(cx), this.told.as_mut()) {
            (Poll::Pending, Some(told)) if this.messages.is_boundary() => {
                ready!(told.quiet.as_mut().poll(cx));
                None
            }
            (frame, told) => {
                let frame = ready!(frame);
                let begins = matches!(&frame, Some(Ok(frame)) if frame.is_data());
                match told {
                    // A message begins, so the wait for quiet starts again. After `last`, the message is dropped and
                    // the stream ends. If the service answers only after the shutdown began, `told` was set in this
                    // very poll, so its message still passes.
                    Some(told) if begins && this.messages.is_boundary() => {
                        let now = Instant::now();
                        told.quiet.as_mut().reset(now + *this.quiet);
                        Some(frame).filter(|_| now < told.last)
                    }
                    _ => Some(frame),
                }
            }
        };
        let Some(frame) = frame else {
            // The drop of its body tells the service that the stream has ended.
            this.body.set(None);
            let farewell = this.messages.farewell();
            return Poll::Ready(farewell.map(|trailers| Ok(Frame::trailers(trailers))));
        };
        Poll::Ready(frame.map(|frame| {
            let frame = frame?.map_data(|mut data: B::Data| data.copy_to_bytes(data.remaining()));
            if let Some(data) = frame.data_ref() {
                this.messages.sent(data);
            }
            Ok(frame)
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        // The stream may be ended before the inner body's end.
        SizeHint::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_of_grpc_ends_where_its_prefix_says_however_it_is_cut() {
        let stream = [
            &[0, 0, 0, 0, 3][..],
            b"abc",
            &[1, 0, 0, 1, 0],
            &[7; 256],
            &[0; 5],
        ]
        .concat();
        let ends = [0, 8, 269, 274];
        for step in [1, 2, 7, stream.len()] {
            let mut messages = Messages::grpc();
            let mut sent = 0;
            for part in stream.chunks(step) {
                messages.sent(part);
                sent += part.len();
                assert_eq!(
                    messages.is_boundary(),
                    ends.contains(&sent),
                    "{step} {sent}"
                );
            }
        }
    }
}
