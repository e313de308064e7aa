//! What is going on on one client connection, so that its time limits hold in
//! every phase with a single timer, and its socket is closed without losing the
//! last response.

mod doing;

use std::future::{Future as _, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use futures_util::task::AtomicWaker;
use hyper::Request;
use lifecycle_http::RequestFraming;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::inbound::interim::Interim;
use doing::Asked;

/// How long a closed connection is read from, when the client was still sending.
const LINGER: Duration = Duration::from_secs(5);

/// Requests that the client of a connection may give up without their answers,
/// beyond those that it waits for.
const MOST_ABANDONED: usize = 100;

/// The time limits of a client connection.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// To the first byte, and from a request's first byte to the end of its head.
    pub hello: Duration,
    /// Without a byte in either direction.
    pub idle: Duration,
}

/// Between requests.
const WAITING: u8 = 0;
/// A part of a request's head has arrived.
const HEAD: u8 = 1;
/// A request is being answered.
const EXCHANGE: u8 = 2;
/// It was sent on, whole, and the upstream has not begun to answer.
const UPSTREAM: u8 = 3;
/// The upstream has begun to answer.
const ANSWER: u8 = 4;
/// It is a connection in HTTP/2: what goes on in it is counted, not named.
const MULTIPLEXED: u8 = 5;

/// It was upgraded: what goes on is no HTTP any more.
const UPGRADED: u8 = 6;

/// The clock of one connection. Orderings are relaxed: it is read by the task
/// that owns the connection, for time limits and a choice of how to close.
#[derive(Debug)]
pub struct Activity {
    limits: Limits,
    opened: Instant,
    /// Milliseconds from `opened` to the last byte in either direction.
    last: AtomicU64,
    /// Milliseconds from `opened` to the first byte of the head being read.
    head: AtomicU64,
    phase: AtomicU8,
    /// A request's body has not been read to its end.
    unread: AtomicBool,
    /// In HTTP/2, requests whose answer has not begun.
    owed: AtomicUsize,
    /// Requests that the client gave up before their answer began, less those
    /// that were answered since.
    abandoned: AtomicUsize,
    /// How many times over that was too many, at most.
    given_up: AtomicUsize,
    /// How many requests have begun, and the first of them whose length is
    /// ambiguous; over HTTP/1.1 only.
    begun: AtomicU64,
    ambiguous: AtomicU64,
    /// The task that owns the connection, if it waits for that.
    owner: AtomicWaker,
    /// What is to be said before the next response.
    interim: Arc<Interim>,
    /// For people who look.
    asked: Asked,
}

impl Activity {
    /// A clock that starts now.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            opened: Instant::now(),
            last: AtomicU64::new(0),
            head: AtomicU64::new(0),
            phase: AtomicU8::new(WAITING),
            unread: AtomicBool::new(false),
            owed: AtomicUsize::new(0),
            abandoned: AtomicUsize::new(0),
            given_up: AtomicUsize::new(0),
            begun: AtomicU64::new(0),
            ambiguous: AtomicU64::new(u64::MAX),
            owner: AtomicWaker::new(),
            interim: Arc::default(),
            asked: Asked::default(),
        }
    }

    /// This request begins.
    pub fn asked<B>(&self, request: &Request<B>) {
        self.asked
            .begins(request, self.last.load(Ordering::Relaxed));
    }

    /// What is to be said before the next response.
    pub const fn interim(&self) -> &Arc<Interim> {
        &self.interim
    }

    /// Counts a request over HTTP/1.1, and returns whether its length, or that of
    /// one before it, is ambiguous.
    pub fn is_ambiguous(&self) -> bool {
        let number = self.begun.fetch_add(1, Ordering::Relaxed);
        number >= self.ambiguous.load(Ordering::Relaxed)
    }

    /// It is no HTTP connection any more.
    pub fn upgraded(&self) {
        self.phase.store(UPGRADED, Ordering::Relaxed);
    }

    /// A request's head is complete, on a connection in HTTP/2.
    pub fn stream_begins(&self) {
        self.owed.fetch_add(1, Ordering::Relaxed);
        self.phase.store(MULTIPLEXED, Ordering::Relaxed);
    }

    /// Its response begins.
    pub fn stream_answered(&self) {
        self.stream_is_settled();
        let fewer = |abandoned: usize| abandoned.checked_sub(1);
        // None to forget is as good.
        let _ = self
            .abandoned
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, fewer);
    }

    /// Its client does not want the response any more.
    pub fn stream_abandoned(&self) {
        self.stream_is_settled();
        let abandoned = self.abandoned.fetch_add(1, Ordering::Relaxed) + 1;
        let times = abandoned / MOST_ABANDONED;
        if self.given_up.fetch_max(times, Ordering::Relaxed) < times {
            self.owner.wake();
        }
    }

    /// Waits until the client has given up so many requests that it only makes
    /// work: each costs it a few bytes, and the upstream a request.
    pub async fn enough(&self) {
        poll_fn(|cx| self.poll_given_up(cx, 1)).await;
    }

    /// Waits until it has gone on like that.
    pub async fn too_much(&self) {
        poll_fn(|cx| self.poll_given_up(cx, 2)).await;
    }

    fn stream_is_settled(&self) {
        self.touch();
        self.owed.fetch_sub(1, Ordering::Relaxed);
    }

    /// A request's head is complete; its body is still to be read.
    pub fn exchange_begins(&self) {
        self.interim.clear();
        self.phase.store(EXCHANGE, Ordering::Relaxed);
        self.unread.store(true, Ordering::Relaxed);
    }

    /// The request was read to its end: the client owes nothing any more.
    pub fn request_ended(&self) {
        self.unread.store(false, Ordering::Relaxed);
        // A response that came before the end of the request is not awaited again.
        let _ =
            self.phase
                .compare_exchange(EXCHANGE, UPSTREAM, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// The response begins.
    pub fn answered(&self) {
        self.touch();
        self.phase.store(ANSWER, Ordering::Relaxed);
    }

    fn poll_given_up(&self, cx: &mut Context<'_>, times: usize) -> Poll<()> {
        // Over HTTP/1.1 who gives up a request gives up the connection.
        if self.phase.load(Ordering::Relaxed) != MULTIPLEXED {
            return Poll::Pending;
        }
        self.owner.register(cx.waker());
        if self.given_up.load(Ordering::Relaxed) >= times {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    /// The response was handed over to its last byte.
    pub fn exchange_ended(&self) {
        self.phase.store(WAITING, Ordering::Relaxed);
        self.asked.is_over();
    }

    /// When the last byte passed, in either direction.
    pub fn last_byte(&self) -> Instant {
        self.at(&self.last)
    }

    /// Ends when the connection has outstayed the limit of its phase.
    ///
    /// Poll it after the connection, in the same task: what the connection did
    /// moves the deadline, both ways.
    pub async fn expired(&self) {
        let mut timer = pin!(sleep_until(Instant::now() + self.limits.idle));
        let mut waits: Option<Waker> = None;
        poll_fn(|cx| {
            // Only a head brings the deadline forward. Otherwise there is nothing to
            // ask, neither timer nor clock, until the timer has woken this task.
            let waker = cx.waker();
            let is_set = waits.as_ref().is_some_and(|waits| waits.will_wake(waker));
            if is_set && self.phase.load(Ordering::Relaxed) != HEAD && !timer.is_elapsed() {
                return Poll::Pending;
            }
            if !is_set {
                waits = Some(waker.clone());
            }
            self.poll_expired(cx, timer.as_mut())
        })
        .await
    }

    fn poll_expired(&self, cx: &mut Context<'_>, mut timer: Pin<&mut Sleep>) -> Poll<()> {
        loop {
            let deadline = self.deadline();
            if deadline < timer.deadline() {
                timer.as_mut().reset(deadline);
            }
            ready!(timer.as_mut().poll(cx));
            if deadline <= timer.deadline() {
                return Poll::Ready(());
            }
            timer.as_mut().reset(deadline);
        }
    }

    fn deadline(&self) -> Instant {
        match self.phase.load(Ordering::Relaxed) {
            HEAD => self.at(&self.head) + self.limits.hello,
            // The upstream's own limit holds here.
            UPSTREAM => Instant::now() + self.limits.idle,
            MULTIPLEXED if self.owed.load(Ordering::Relaxed) > 0 => {
                Instant::now() + self.limits.idle
            }
            _ => self.last_byte() + self.limits.idle,
        }
    }

    fn at(&self, millis: &AtomicU64) -> Instant {
        self.opened + Duration::from_millis(millis.load(Ordering::Relaxed))
    }

    fn touch(&self) -> u64 {
        let elapsed = u64::try_from(self.opened.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.last.store(elapsed, Ordering::Relaxed);
        elapsed
    }

    /// Looks at bytes before they are read as requests.
    fn inspect(&self, bytes: &[u8], framing: &mut RequestFraming) {
        if matches!(self.phase.load(Ordering::Relaxed), MULTIPLEXED | UPGRADED) {
            return;
        }
        framing.pass(bytes);
        if let Some(number) = framing.first_ambiguous() {
            self.ambiguous.store(number, Ordering::Relaxed);
        }
    }

    fn bytes_arrived(&self) {
        let now = self.touch();
        if self.phase.load(Ordering::Relaxed) == WAITING {
            self.head.store(now, Ordering::Relaxed);
            self.phase.store(HEAD, Ordering::Relaxed);
        }
    }
}

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

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    const LIMITS: Limits = Limits {
        hello: Duration::from_secs(2),
        idle: Duration::from_secs(10),
    };

    /// How long until `activity` expires, if nothing more happens.
    async fn left(activity: &Activity) -> Duration {
        let start = Instant::now();
        activity.expired().await;
        start.elapsed()
    }

    #[tokio::test]
    async fn a_socket_closed_over_unread_bytes_does_not_lose_what_was_written() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut client = TcpStream::connect(address).await.unwrap();
        let (server, _) = listener.accept().await.unwrap();
        client.write_all(&[b'q'; 1000]).await.unwrap();

        // More is written than the client's socket takes in, so the rest is the
        // kernel's to send after the close.
        let mut written = 0;
        server.writable().await.unwrap();
        while let Ok(length) = server.try_write(&[b'a'; 65536]) {
            written += length;
        }
        let closing = tokio::spawn(async move {
            let activity = Arc::new(Activity::new(LIMITS));
            activity.exchange_begins();
            Watched::new(server, activity).shutdown().await.unwrap();
        });
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        let mut read = Vec::new();
        client.read_to_end(&mut read).await.unwrap();
        assert_eq!(read.len(), written);
        drop(client);
        closing.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn an_unused_connection_has_the_idle_limit() {
        let activity = Activity::new(LIMITS);
        assert_eq!(left(&activity).await.as_secs(), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_must_be_complete_soon_after_its_first_byte_however_it_trickles() {
        let activity = Activity::new(LIMITS);
        tokio::time::advance(Duration::from_secs(5)).await;
        activity.bytes_arrived();
        tokio::time::advance(Duration::from_secs(1)).await;
        activity.bytes_arrived();
        assert_eq!(left(&activity).await.as_secs(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn an_exchange_lives_as_long_as_its_bytes_flow() {
        let activity = Activity::new(LIMITS);
        activity.bytes_arrived();
        activity.exchange_begins();
        for _ in 0..5 {
            tokio::time::advance(Duration::from_secs(9)).await;
            activity.touch();
        }
        assert_eq!(left(&activity).await.as_secs(), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_does_not_expire_while_the_upstream_owes_the_answer() {
        let activity = Activity::new(LIMITS);
        activity.exchange_begins();
        activity.request_ended();
        let waited = tokio::time::timeout(Duration::from_secs(100), left(&activity)).await;
        assert!(waited.is_err());
        activity.answered();
        assert_eq!(left(&activity).await.as_secs(), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn a_response_that_came_before_the_end_of_the_request_has_the_idle_limit() {
        let activity = Activity::new(LIMITS);
        activity.exchange_begins();
        activity.answered();
        activity.request_ended();
        assert_eq!(left(&activity).await.as_secs(), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_in_http_2_is_idle_only_when_nothing_is_owed() {
        let activity = Activity::new(LIMITS);
        activity.bytes_arrived();
        activity.stream_begins();
        activity.stream_begins();
        activity.stream_answered();
        let waited = tokio::time::timeout(Duration::from_secs(100), left(&activity)).await;
        assert!(waited.is_err());
        activity.stream_answered();
        assert_eq!(left(&activity).await.as_secs(), 10);
        activity.bytes_arrived();
        assert_eq!(left(&activity).await.as_secs(), 10, "a ping is no head");
    }

    #[tokio::test]
    async fn a_client_that_gives_up_more_requests_than_it_waits_for_has_had_enough() {
        let activity = Activity::new(LIMITS);
        for _ in 0..1000 {
            activity.stream_begins();
            activity.stream_abandoned();
            activity.stream_begins();
            activity.stream_answered();
        }
        for _ in 1..MOST_ABANDONED {
            activity.stream_begins();
            activity.stream_abandoned();
        }
        assert!(activity.enough().now_or_never().is_none());
        activity.stream_begins();
        activity.stream_abandoned();
        assert!(activity.enough().now_or_never().is_some());
        assert!(activity.too_much().now_or_never().is_none());
        for _ in 0..MOST_ABANDONED {
            activity.stream_begins();
            activity.stream_abandoned();
        }
        assert!(activity.too_much().now_or_never().is_some());
    }
}
