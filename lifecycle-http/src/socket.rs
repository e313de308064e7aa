//! An accepted socket. It counts its bytes, limits slow clients, and closes without losing the last response. The task
//! of its connection can close it.

use std::fmt;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use lifecycle_runtime::Connection;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::RawStream;
use crate::link::Link;
use crate::pace::Pace;

/// An accepted socket, for a [`Handshake`](crate::Handshake) to build on.
///
/// A write fails if the client takes no bytes for too long, see [`Limits::stall`](crate::Limits::stall).
pub struct Socket {
    link: Arc<Link>,
    /// The stream, while only this socket can reach it. Otherwise the [`SharedSocket`] has it.
    own: Option<RawStream>,
    pace: Pace,
    linger: Option<Pin<Box<Sleep>>>,
}

/// The stream of a connection, if the connection's task must be able to close it while something else holds the
/// [`Socket`]: a handshake that has not returned it, or an upgrade. As long as the task itself has the socket, the stream
/// is in the socket, and reads and writes need no lock.
#[derive(Debug, Default)]
pub(crate) struct SharedSocket {
    /// Whether the stream belongs into the slot. The socket puts it there before its next read or write.
    shared: AtomicBool,
    /// Boxed, so that `shared`, which every request reads, is near the other fields of the connection that requests use.
    rare: Box<Rare>,
}

#[derive(Debug, Default)]
struct Rare {
    slot: Mutex<Slot>,
    closed: Notify,
}

#[derive(Debug, Default)]
struct Slot {
    raw: Option<RawStream>,
    cut: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl SharedSocket {
    pub(crate) fn new(raw: RawStream) -> Self {
        let slot = Mutex::new(Slot {
            raw: Some(raw),
            ..Slot::default()
        });
        let closed = Notify::new();
        Self {
            shared: AtomicBool::new(true),
            rare: Box::new(Rare { slot, closed }),
        }
    }

    /// Closes the socket, and wakes the tasks that wait to read from it or to write to it.
    pub(crate) fn cut(&self) {
        let cut = Slot {
            cut: true,
            ..Slot::default()
        };
        let slot = std::mem::replace(&mut *self.slot(), cut);
        drop(slot.raw);
        slot.reader
            .into_iter()
            .chain(slot.writer)
            .for_each(Waker::wake);
        // `notify_one` keeps a permit, so a call of `closed` that comes later returns, too.
        self.rare.closed.notify_one();
    }

    /// Has the socket share its stream from its next read or write on, because something else than the connection's task
    /// will hold the socket. The caller is the task that reads and writes next.
    pub(crate) fn share(&self) {
        self.shared.store(true, Ordering::Relaxed);
    }

    fn put(&self, raw: RawStream) {
        let mut slot = self.slot();
        // A stream that comes after the cut is closed.
        if !slot.cut {
            slot.raw = Some(raw);
        }
    }

    /// Waits until the socket is closed. Only one task may wait, since `cut` wakes only one.
    pub(crate) async fn closed(&self) {
        self.rare.closed.notified().await;
    }

    fn slot(&self) -> MutexGuard<'_, Slot> {
        let slot = self.rare.slot.lock();
        slot.unwrap_or_else(PoisonError::into_inner)
    }

    fn poll_read(&self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let slot = &mut *self.slot();
        let polled = match &mut slot.raw {
            None => return Poll::Ready(Err(was_cut())),
            Some(raw) => Pin::new(raw).poll_read(cx, buffer),
        };
        remember(&mut slot.reader, polled.is_pending(), cx);
        polled
    }

    fn poll_write(
        &self,
        cx: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut RawStream>, &mut Context<'_>) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        let slot = &mut *self.slot();
        let Some(raw) = &mut slot.raw else {
            return Poll::Ready(Err(was_cut()));
        };
        let polled = write(Pin::new(raw), cx);
        remember(&mut slot.writer, polled.is_pending(), cx);
        polled
    }

    fn poll_shutdown(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.slot().raw {
            None => Poll::Ready(Ok(())),
            Some(raw) => Pin::new(raw).poll_shutdown(cx),
        }
    }
}

fn remember(waiting: &mut Option<Waker>, pending: bool, cx: &Context<'_>) {
    if !pending {
        return;
    }
    match waiting {
        Some(waker) => waker.clone_from(cx.waker()),
        None => *waiting = Some(cx.waker().clone()),
    }
}

fn was_cut() -> io::Error {
    io::Error::new(
        io::ErrorKind::ConnectionAborted,
        "the server closed the connection",
    )
}

impl Socket {
    pub(crate) fn new(link: Arc<Link>) -> Self {
        Self {
            pace: Pace::new(&link.common.limits),
            own: None,
            linger: None,
            link,
        }
    }

    /// Takes the stream for this socket alone, which only the connection's task has from now on.
    pub(crate) fn keep(&mut self) {
        self.wire().shared.store(false, Ordering::Relaxed);
        let raw = self.wire().slot().raw.take();
        self.own = raw;
    }

    /// Returns the stream if this socket alone has it.
    #[inline]
    fn own(&mut self) -> Option<&mut RawStream> {
        if self.wire().shared.load(Ordering::Relaxed) {
            self.hand_over();
        }
        self.own.as_mut()
    }

    #[cold]
    fn hand_over(&mut self) {
        if let Some(raw) = self.own.take() {
            self.wire().put(raw);
        }
    }

    #[inline]
    fn poll_read_raw(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.own() {
            Some(raw) => Pin::new(raw).poll_read(cx, buffer),
            None => self.wire().poll_read(cx, buffer),
        }
    }

    fn poll_write_raw(
        &mut self,
        cx: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut RawStream>, &mut Context<'_>) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        match self.own() {
            Some(raw) => write(Pin::new(raw), cx),
            None => self.wire().poll_write(cx, write),
        }
    }

    /// Returns the connection that the socket belongs to.
    pub fn connection(&self) -> &Connection {
        &self.link.connection
    }

    fn wire(&self) -> &SharedSocket {
        &self.link.activity.wire
    }

    fn wrote(
        &mut self,
        polled: Poll<io::Result<usize>>,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        match polled {
            Poll::Ready(Ok(written)) => {
                self.pace.moved(written);
                self.link.activity.wrote(written);
                if self.link.activity.is_h2() {
                    self.link.connection.add_bytes(0, written as u64);
                } else {
                    self.link.connection.sent(written as u64);
                }
                Poll::Ready(Ok(written))
            }
            Poll::Ready(error) => Poll::Ready(error),
            Poll::Pending => {
                ready!(self.pace.poll_overdue(cx));
                Poll::Ready(Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "the client does not take the response",
                )))
            }
        }
    }

    /// Reads what the client still sends, until the client closes the connection or its time to do so is over.
    ///
    /// The kernel resets a socket that is closed over unread bytes, and a reset can overtake the response that was just
    /// written (RFC 9112 §9.6). If the client is silent and the server has read its whole request, there is no wait:
    /// see [`Activity::lingers`](crate::activity::Activity::lingers).
    fn poll_linger(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let mut scrap = [0; 4096];
        loop {
            let mut buffer = ReadBuf::new(&mut scrap);
            let read = self.poll_read_raw(cx, &mut buffer);
            match read {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    self.link.activity.unread(true)
                }
                Poll::Ready(_) => return Poll::Ready(()),
                Poll::Pending => {}
            }
            let Some(limit) = self.link.activity.lingers(&self.link.common.limits) else {
                return Poll::Ready(());
            };
            let timer = self
                .linger
                .get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + limit)));
            if timer.as_mut().poll(cx).is_ready() {
                return Poll::Ready(());
            }
            if read.is_pending() {
                return Poll::Pending;
            }
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // Closed before `cut` says so.
        drop(self.own.take());
        self.wire().cut();
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(self.poll_read_raw(cx, buffer))?;
        let read = (buffer.filled().len() - before) as u64;
        if self.link.activity.is_h2() {
            self.link.connection.add_bytes(read, 0);
        } else {
            self.link.connection.received(read);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = self.poll_write_raw(cx, |raw, cx| raw.poll_write(cx, bytes));
        self.wrote(polled, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = self.poll_write_raw(cx, |raw, cx| raw.poll_write_vectored(cx, slices));
        self.wrote(polled, cx)
    }

    /// Returns `true`, since TCP and unix sockets support vectored writes.
    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Does nothing, since `poll_write` has handed all bytes to the kernel.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.linger.is_none() {
            ready!(match self.own() {
                Some(raw) => Pin::new(raw).poll_shutdown(cx),
                None => self.wire().poll_shutdown(cx),
            })?;
        }
        self.poll_linger(cx).map(Ok)
    }
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socket")
            .field("connection", self.connection())
            .finish_non_exhaustive()
    }
}
