//! A socket that tells the clock of its connection what passes, and that is closed
//! without losing the last response.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use lifecycle_http::RequestFraming;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};

use super::{ANSWER, Activity, EXCHANGE, MULTIPLEXED, UPGRADED, UPSTREAM};

/// How long a closed connection is read from, when the client was still sending.
const LINGER: Duration = Duration::from_secs(5);

/// A client's socket that keeps its [`Activity`].
#[derive(Debug)]
pub struct Watched {
    stream: TcpStream,
    activity: Arc<Activity>,
    linger: Option<Pin<Box<Sleep>>>,
    framing: RequestFraming,
    /// Interim responses that are being written.
    interim: Bytes,
    /// All that hyper had to say was handed over: whatever comes next begins a response.
    flushed: bool,
}

impl Watched {
    /// Watches `stream`.
    #[must_use]
    pub const fn new(stream: TcpStream, activity: Arc<Activity>) -> Self {
        Self {
            stream,
            activity,
            linger: None,
            framing: RequestFraming::new(),
            interim: Bytes::new(),
            flushed: true,
        }
    }

    /// Writes the interim responses that wait, between two responses, to their end.
    fn poll_interim(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.flushed && self.interim.is_empty() {
            self.interim = self.activity.interim.take(cx.waker());
        }
        while !self.interim.is_empty() {
            let stream = Pin::new(&mut self.stream);
            let written = ready!(stream.poll_write(cx, &self.interim))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.activity.touch();
            self.interim.advance(written);
        }
        Poll::Ready(Ok(()))
    }

    /// Reads what the client still sends, until it closes too or time is up.
    ///
    /// A socket closed over unread bytes is reset, and a reset can overtake the
    /// response that was just written (RFC 9112 §9.6).
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let timer = self
            .linger
            .get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + LINGER)));
        let mut scrap = [0; 4096];
        while timer.as_mut().poll(cx).is_pending() {
            let mut buffer = ReadBuf::new(&mut scrap);
            match ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => {}
                _ => break,
            }
        }
        Poll::Ready(())
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let this = &mut *self;
        ready!(Pin::new(&mut this.stream).poll_read(cx, buffer))?;
        let arrived = &buffer.filled()[before..];
        if !arrived.is_empty() {
            this.activity.inspect(arrived, &mut this.framing);
            this.activity.bytes_arrived();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_interim(cx))?;
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes))?;
        self.flushed = false;
        self.activity.touch();
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_interim(cx))?;
        let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, slices))?;
        self.flushed = false;
        self.activity.touch();
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.activity.phase.load(Ordering::Relaxed) {
            // hyper asks for this once it has handed over all that it had.
            EXCHANGE | UPSTREAM => {
                self.flushed = true;
                ready!(self.poll_interim(cx))?;
            }
            // Too late for those that have waited until the response had begun.
            ANSWER => self.activity.interim.clear(),
            MULTIPLEXED | UPGRADED => {}
            _ => self.flushed = true,
        }
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.linger.is_none() {
            ready!(Pin::new(&mut self.stream).poll_shutdown(cx))?;
        }
        if self.activity.unread.load(Ordering::Relaxed) {
            ready!(self.poll_linger(cx));
        }
        Poll::Ready(Ok(()))
    }
}
