//! Reads the first bytes of a connection, to find out whether the client speaks HTTP/1.1 or HTTP/2.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf as _, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::link::Link;
use crate::{Protocol, RequestFraming};

/// The bytes that an HTTP/2 client sends first, called the preface (RFC 9113 §3.4).
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// A stream whose first bytes were read to find its protocol, and are given to hyper afterwards. It tells the
/// connection's [`Activity`](crate::activity::Activity) when bytes arrive, and writes interim responses between two final responses.
pub(crate) struct Sniffed<T> {
    stream: T,
    link: Arc<Link>,
    first: [u8; PREFACE.len()],
    filled: usize,
    taken: usize,
    framing: RequestFraming,
    /// The part of the interim responses that the stream is writing and has not written yet.
    interim: Bytes,
    /// The task that is woken when an interim response is added.
    writer: Option<Waker>,
    /// Whether hyper has handed over all bytes of the last response, so that the next bytes from hyper begin a
    /// response.
    flushed: bool,
}

impl<T: AsyncRead + Unpin> Sniffed<T> {
    pub(crate) fn new(stream: T, link: Arc<Link>) -> Self {
        Self {
            stream,
            link,
            first: [0; PREFACE.len()],
            filled: 0,
            taken: 0,
            framing: RequestFraming::new(),
            interim: Bytes::new(),
            writer: None,
            flushed: true,
        }
    }

    /// Reads until the protocol is certain. Reads at least one byte even if the handshake named the protocol (`said`),
    /// so that a silent client does not count as one that has begun.
    ///
    /// Returns `None` if the client closed the connection before that.
    pub(crate) async fn sniff(&mut self, said: Protocol) -> io::Result<Option<Protocol>> {
        loop {
            let first = &self.first[..self.filled];
            match said {
                _ if first.is_empty() => {}
                Protocol::Http1 | Protocol::Http2 => return Ok(Some(said)),
                Protocol::Unknown if first == PREFACE => return Ok(Some(Protocol::Http2)),
                Protocol::Unknown if PREFACE.starts_with(first) => {}
                Protocol::Unknown => return Ok(Some(Protocol::Http1)),
            }
            if self.more().await? == 0 {
                return Ok(None);
            }
        }
    }

    async fn more(&mut self) -> io::Result<usize> {
        let mut buffer = ReadBuf::new(&mut self.first[self.filled..]);
        poll_fn(|cx| Pin::new(&mut self.stream).poll_read(cx, &mut buffer)).await?;
        let read = buffer.filled().len();
        if read > 0 {
            self.link.activity.bytes_arrived();
            self.framing
                .pass(&self.first[self.filled..self.filled + read]);
        }
        self.filled += read;
        Ok(read)
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Sniffed<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let first = &this.first[this.taken..this.filled];
        if !first.is_empty() {
            let length = first.len().min(buffer.remaining());
            buffer.put_slice(&first[..length]);
            this.taken += length;
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(cx, buffer))?;
        let arrived = &buffer.filled()[before..];
        if !arrived.is_empty() {
            this.link.activity.bytes_arrived();
            if !this.link.activity.is_h2() && !this.link.activity.is_tunnel() {
                this.framing.pass(arrived);
                if let Some(number) = this.framing.first_ambiguous() {
                    this.link.activity.found_ambiguous(number);
                }
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> Sniffed<T> {
    /// Has the task woken when an interim response is added.
    fn awaits_interim(&mut self, cx: &Context<'_>) {
        let waits = |waker: &Waker| waker.will_wake(cx.waker());
        if !self.writer.as_ref().is_some_and(waits) {
            self.link.activity.interim.wakes(cx.waker());
            self.writer = Some(cx.waker().clone());
        }
    }

    /// Writes all interim responses that wait, once the stream is between two final responses.
    #[inline]
    fn poll_interim(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.interim.is_empty() && !self.link.activity.interim.waits() {
            return Poll::Ready(Ok(()));
        }
        self.write_interim(cx)
    }

    fn write_interim(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.flushed && self.interim.is_empty() && self.link.activity.is_between() {
            self.interim = self.link.activity.interim.take();
        }
        while !self.interim.is_empty() {
            let stream = Pin::new(&mut self.stream);
            let written = ready!(stream.poll_write(cx, &self.interim))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.interim.advance(written);
        }
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Sniffed<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_interim(cx))?;
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes))?;
        self.flushed = false;
        Poll::Ready(Ok(written))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_interim(cx))?;
        let written = ready!(Pin::new(&mut self.stream).poll_write_vectored(cx, slices))?;
        self.flushed = false;
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // hyper flushes once it has handed over all the bytes that it has. In the middle of a response this does not
        // mean that the response is complete, so `flushed` stays false then.
        if self.link.activity.takes_interim() {
            self.flushed = true;
            self.awaits_interim(cx);
            ready!(self.poll_interim(cx))?;
        } else if !self.link.activity.is_answering() {
            self.flushed = true;
        }
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
