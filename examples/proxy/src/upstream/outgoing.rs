//! The body of a request on its way to an upstream.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};

use hyper::body::{Body, Frame, SizeHint};
use lifecycle_http::BodyError;

use crate::inbound::body::Upload;
use crate::message::backlog::{Backlog, Piece};

/// A request's body that records when all of it was sent to hyper. It gives hyper only little before
/// the upstream takes it.
#[derive(Debug)]
pub(super) struct Outgoing {
    upload: Upload,
    progress: Progress,
    /// `None` if the request has no body.
    backlog: Option<Backlog>,
}

/// Whether hyper has taken all of a request's body. `None` if the request has no body.
#[derive(Clone, Debug)]
pub(super) struct Progress(Option<Arc<AtomicBool>>);

impl Progress {
    /// Returns whether hyper has taken all of the body, or there is none.
    pub(super) fn is_complete(&self) -> bool {
        let Self(complete) = self;
        complete
            .as_ref()
            .is_none_or(|complete| complete.load(Ordering::Relaxed))
    }
}

impl Outgoing {
    /// Creates a body of which nothing has been taken yet.
    pub(super) fn new(upload: Upload) -> Self {
        let has_more = !upload.is_end_stream();
        Self {
            upload,
            progress: Progress(has_more.then(Arc::default)),
            backlog: has_more.then(Backlog::default),
        }
    }

    /// Returns the original body.
    pub(super) fn into_upload(self) -> Upload {
        self.upload
    }

    /// Returns a handle that shows whether all of the body was taken.
    pub(super) fn progress(&self) -> Progress {
        self.progress.clone()
    }
}

impl Body for Outgoing {
    type Data = Piece;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Piece>, BodyError>>> {
        if let Some(backlog) = &self.backlog {
            ready!(backlog.poll_room(cx));
        }
        let frame = ready!(Pin::new(&mut self.upload).poll_frame(cx));
        let is_last = frame.is_none() || self.upload.is_end_stream();
        if let Some(complete) = self.progress.0.as_ref().filter(|_| is_last) {
            complete.store(true, Ordering::Relaxed);
        }
        let piece = |bytes| match &self.backlog {
            Some(backlog) => backlog.hold(bytes),
            None => Piece::from(bytes),
        };
        Poll::Ready(frame.map(|frame| frame.map(|frame| frame.map_data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.upload.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.upload.size_hint()
    }
}
