//! The body of an upstream's response.

use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};

use crate::upstream::connection::Connection;

/// The largest number of pieces that are read of a body after it was dropped. Reading it to the end
/// allows the proxy to keep the connection.
const MOST_UNWANTED: usize = 4;

/// The body of a response. It holds the connection over which it comes, if that has no task of its
/// own. At the end of the body, the connection is kept for the next request.
#[derive(Debug)]
pub struct ResponseBody {
    incoming: Incoming,
    connection: Option<Box<Connection>>,
    /// The error to return at the next poll. hyper's server writes the earlier pieces only if the
    /// body is pending before the error.
    failed: Option<hyper::Error>,
}

impl ResponseBody {
    /// Creates a body that another task receives, so that it holds no connection.
    pub(super) const fn new(incoming: Incoming) -> Self {
        Self {
            incoming,
            connection: None,
            failed: None,
        }
    }

    /// Creates a body that comes over `connection` and drives the connection.
    pub(super) fn over(incoming: Incoming, connection: Box<Connection>) -> Self {
        let mut body = Self::new(incoming);
        if body.incoming.is_end_stream() {
            connection.give_back();
        } else {
            body.connection = Some(connection);
        }
        body
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        let Self {
            incoming,
            connection,
            failed,
        } = self.get_mut();
        if let Some(error) = failed.take() {
            return Poll::Ready(Some(Err(error)));
        }
        let mut poll = |cx: &mut Context<'_>| Pin::new(&mut *incoming).poll_frame(cx);
        let frame = ready!(match connection {
            Some(connection) => connection.drive(cx, poll),
            None => poll(cx),
        });
        let goes_on = matches!(frame, Some(Ok(_))) && !incoming.is_end_stream();
        if let Some(connection) = connection.take_if(|_| !goes_on) {
            connection.give_back();
        }
        if let Some(Err(error)) = frame {
            *failed = Some(error);
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.failed.is_none() && self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

impl Drop for ResponseBody {
    fn drop(&mut self) {
        let mut cx = Context::from_waker(Waker::noop());
        for _ in 0..MOST_UNWANTED {
            if self.connection.is_none() || Pin::new(&mut *self).poll_frame(&mut cx).is_pending() {
                return;
            }
        }
    }
}
