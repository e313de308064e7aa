//! The body of a response. It keeps the response's exchange, which ends when hyper drops the body.

use std::io::IoSlice;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use crate::ending::EndingBody;
use crate::exchange::Exchange;
use crate::sse::SseBody;

/// The largest piece of a body that h2 is given at once, in bytes. h2 takes a piece before the client's window has room
/// for it, and then asks for the next. So a large body in one piece would end long before its client has it.
const PIECE: usize = 16 * 1024;

/// A frame of a body as the service made it, or bytes that were split from such a frame.
#[derive(Debug)]
pub(crate) enum Piece<D> {
    Frame(D),
    Bytes(Bytes),
}

impl<D: Buf> Buf for Piece<D> {
    fn remaining(&self) -> usize {
        match self {
            Self::Frame(data) => data.remaining(),
            Self::Bytes(data) => data.remaining(),
        }
    }

    fn chunk(&self) -> &[u8] {
        match self {
            Self::Frame(data) => data.chunk(),
            Self::Bytes(data) => data.chunk(),
        }
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        match self {
            Self::Frame(data) => data.chunks_vectored(slices),
            Self::Bytes(data) => data.chunks_vectored(slices),
        }
    }

    fn advance(&mut self, count: usize) {
        match self {
            Self::Frame(data) => data.advance(count),
            Self::Bytes(data) => data.advance(count),
        }
    }

    fn copy_to_bytes(&mut self, length: usize) -> Bytes {
        match self {
            Self::Frame(data) => data.copy_to_bytes(length),
            Self::Bytes(data) => data.copy_to_bytes(length),
        }
    }
}

pin_project! {
    /// The body of a response. It keeps its exchange, which ends when hyper drops the body.
    pub(crate) struct ResponseBody<B: Body> {
        #[pin]
        body: Kind<B>,
        // The part of a data frame that is not sent yet, if the frame is larger than `PIECE`.
        rest: Option<Piece<B::Data>>,
        exchange: Exchange,
    }
}

pin_project! {
    #[project = KindProjection]
    enum Kind<B: Body> {
        Plain { #[pin] body: B },
        Events { #[pin] body: SseBody<B> },
        Ending { #[pin] body: EndingBody<B> },
        Empty,
    }
}

/// A response's body as hyper gets it. It is boxed, because hyper moves a response many times.
pub(crate) type BoxedBody<B> = Pin<Box<ResponseBody<B>>>;

impl<B: Body> ResponseBody<B> {
    pub(crate) fn plain(body: B, exchange: Exchange) -> BoxedBody<B> {
        Self::new(Kind::Plain { body }, exchange)
    }

    pub(crate) fn events(body: SseBody<B>, exchange: Exchange) -> BoxedBody<B> {
        Self::new(Kind::Events { body }, exchange)
    }

    pub(crate) fn ending(body: EndingBody<B>, exchange: Exchange) -> BoxedBody<B> {
        Self::new(Kind::Ending { body }, exchange)
    }

    pub(crate) fn empty(exchange: Exchange) -> BoxedBody<B> {
        Self::new(Kind::Empty, exchange)
    }

    fn new(body: Kind<B>, mut exchange: Exchange) -> BoxedBody<B> {
        exchange.answers();
        exchange.owes(true);
        Box::pin(Self {
            body,
            rest: None,
            exchange,
        })
    }
}

/// Returns at most the first `PIECE` bytes of `data`, and stores the bytes after them in `rest`.
fn first<D: Buf>(mut data: Piece<D>, rest: &mut Option<Piece<D>>) -> Piece<D> {
    if data.remaining() <= PIECE {
        return data;
    }
    let first = data.copy_to_bytes(PIECE);
    *rest = Some(data);
    Piece::Bytes(first)
}

impl<B: Body> Body for ResponseBody<B> {
    type Data = Piece<B::Data>;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, B::Error>>> {
        let this = self.project();
        // hyper asks for the next frame, so the client has taken the last one. The body no longer waits for the client.
        this.exchange.owes(false);
        let frame = match this.rest.take() {
            Some(rest) => Some(Ok(Frame::data(rest))),
            None => match this.body.project() {
                KindProjection::Plain { body } => {
                    let frame = ready!(body.poll_frame(cx));
                    frame.map(|frame| frame.map(|frame| frame.map_data(Piece::Frame)))
                }
                KindProjection::Events { body } => {
                    let frame = ready!(body.poll_frame(cx));
                    frame.map(|frame| frame.map(|frame| frame.map_data(Piece::Bytes)))
                }
                KindProjection::Ending { body } => {
                    let frame = ready!(body.poll_frame(cx));
                    frame.map(|frame| frame.map(|frame| frame.map_data(Piece::Bytes)))
                }
                KindProjection::Empty => None,
            },
        };
        if !this.exchange.is_h2() {
            return Poll::Ready(frame);
        }
        Poll::Ready(frame.map(|frame| {
            frame.map(|frame| match frame.into_data() {
                Ok(data) => {
                    this.exchange.owes(true);
                    Frame::data(first(data, this.rest))
                }
                Err(trailers) => trailers,
            })
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_none()
            && match &self.body {
                Kind::Plain { body } => body.is_end_stream(),
                Kind::Events { body } => body.is_end_stream(),
                Kind::Ending { body } => body.is_end_stream(),
                Kind::Empty => true,
            }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.body {
            Kind::Plain { body } => body.size_hint(),
            Kind::Events { body } => body.size_hint(),
            Kind::Ending { body } => body.size_hint(),
            Kind::Empty => SizeHint::with_exact(0),
        }
    }
}
