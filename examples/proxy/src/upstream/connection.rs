//! A connection in HTTP/1.1 that is driven by the task of the request it serves.
//!
//! hyper's connection is a future beside its requests, usually a task of its own. A
//! request would then wake two tasks, on two threads at worst.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::unconstrained;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::buffers;
use crate::upstream::idle::IdleConnections;
use crate::upstream::kept::{Kept, Life};
use crate::upstream::outgoing::Outgoing;
use crate::upstream::waker::ConnectionWaker;

/// How often a connection and its user may wake one another in one turn of their task.
const ROUNDS: usize = 8;

/// A connection and what is needed to use it again.
pub(super) struct Connection {
    sender: SendRequest<Outgoing>,
    driver: Driver,
    life: Life,
    home: Arc<IdleConnections>,
}

/// Why there is no response to a request.
pub(super) enum SendError {
    /// The response did not come in time.
    Late,
    /// hyper's error, with the request if nothing of it was written.
    Failed(Box<TrySendError<Request<Outgoing>>>),
}

/// hyper's side of a connection: reads, writes, and wakes.
struct Driver {
    /// The connection itself; none once it has ended.
    future: Option<Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>>,
    state: Arc<ConnectionWaker>,
    waker: Waker,
    /// Wakes the connection at the end of its wait for a response, or earlier: the next
    /// request leaves it as it is, and looks again when it is woken by it.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Driver {
    /// Polls the connection where that has anything to do, then `user`, until neither
    /// moves the other.
    fn drive<T>(
        &mut self,
        cx: &mut Context<'_>,
        mut user: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        self.state.serve(cx.waker());
        for _ in 0..ROUNDS {
            self.advance();
            let polled = user(&mut Context::from_waker(&self.waker));
            let woken = self.state.end_poll();
            if polled.is_ready() || !woken {
                return polled;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Brings the timer forward, where it is set to a later time than `due`.
    fn hurry(&mut self, due: Instant) {
        if let Some(timer) = self.timer.as_mut().filter(|timer| due < timer.deadline()) {
            timer.as_mut().reset(due);
        }
    }

    /// Waits until it is `due`.
    fn poll_late(&mut self, due: &impl Fn() -> Instant) -> Poll<()> {
        if self.timer.as_ref().is_some_and(|timer| !timer.is_elapsed()) {
            return Poll::Pending;
        }
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(sleep_until(due())));
        let mut cx = Context::from_waker(&self.waker);
        loop {
            // Without a budget, as it would be taken for set when that is used up.
            let mut sleep = pin!(unconstrained(timer.as_mut()));
            ready!(sleep.as_mut().poll(&mut cx));
            let due = due();
            if due <= Instant::now() {
                return Poll::Ready(());
            }
            timer.as_mut().reset(due);
        }
    }

    /// Begins a poll, with that of the connection.
    fn advance(&mut self) {
        if !self.state.begin_poll() {
            return;
        }
        if let Some(future) = &mut self.future {
            let mut cx = Context::from_waker(&self.waker);
            // Its user hears of an error.
            if future.as_mut().poll(&mut cx).is_ready() {
                self.future = None;
            }
        }
    }
}

impl Connection {
    /// Begins to speak HTTP/1.1 over `stream`. Once idle, the connection goes to `home`,
    /// and `keeper` is notified of what happens to it.
    ///
    /// # Errors
    ///
    /// hyper's, which has none here so far.
    pub(super) async fn begin(
        stream: TcpStream,
        home: Arc<IdleConnections>,
        keeper: Arc<Notify>,
    ) -> hyper::Result<Box<Self>> {
        let life = Life::default();
        let io = TokioIo::new(Kept::new(stream, life.clone()));
        let mut http = Builder::new();
        buffers::bound_http1(&mut http);
        let (sender, connection) = http.handshake(io).await?;
        let state = Arc::new(ConnectionWaker::new(keeper));
        let driver = Driver {
            future: Some(Box::pin(connection.with_upgrades())),
            waker: state.clone().into(),
            state,
            timer: None,
        };
        Ok(Box::new(Self {
            sender,
            driver,
            life,
            home,
        }))
    }

    /// Sends a request, and waits for the head of the response until it is `due`. The time is
    /// asked for again when it has come.
    ///
    /// # Errors
    ///
    /// [`SendError`].
    ///
    /// # Cancel safety
    ///
    /// Not safe: the connection cannot be used again.
    pub(super) fn send(
        &mut self,
        request: Request<Outgoing>,
        due: &impl Fn() -> Instant,
    ) -> impl Future<Output = Result<Response<Incoming>, SendError>> {
        // Outside the future, which would otherwise hold the request twice.
        let answer = self.sender.try_send_request(request);
        self.driver.hurry(due());
        self.answer(answer, due)
    }

    async fn answer(
        &mut self,
        answer: impl Future<Output = Result<Response<Incoming>, TrySendError<Request<Outgoing>>>>,
        due: &impl Fn() -> Instant,
    ) -> Result<Response<Incoming>, SendError> {
        let mut answer = pin!(answer);
        let driver = &mut self.driver;
        let response = poll_fn(|cx| match driver.drive(cx, |cx| answer.as_mut().poll(cx)) {
            Poll::Ready(answer) => {
                Poll::Ready(answer.map_err(|error| SendError::Failed(Box::new(error))))
            }
            Poll::Pending => driver.poll_late(due).map(|()| Err(SendError::Late)),
        });
        let response = response.await?;
        self.life.set_served();
        Ok(response)
    }

    /// Polls `body`, which comes over this connection.
    pub(super) fn drive<T>(
        &mut self,
        cx: &mut Context<'_>,
        body: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        self.driver.drive(cx, body)
    }

    /// Drives the connection until it is idle or has ended.
    pub(super) async fn settle(&mut self) {
        let Self { sender, driver, .. } = self;
        poll_fn(|cx| {
            driver.drive(cx, |_| {
                if sender.is_ready() || sender.is_closed() {
                    Poll::Ready(())
                } else {
                    Poll::Pending
                }
            })
        })
        .await;
    }

    /// Returns what is known of the connection's past.
    pub(super) const fn life(&self) -> &Life {
        &self.life
    }

    /// Returns whether the next request may be sent over this connection. What came
    /// since the last one, such as its end, is taken note of first.
    pub(super) fn is_usable(&mut self) -> bool {
        if self.driver.state.is_woken() {
            self.driver.advance();
            self.driver.state.end_poll();
        }
        self.driver.future.is_some() && self.sender.is_ready()
    }

    /// Keeps the connection for the next request, if it can serve one.
    pub(super) fn give_back(mut self: Box<Self>) {
        if self.is_usable() {
            let home = self.home.clone();
            home.put(self);
        }
    }

    /// Takes the connection back from the keeper of idle ones.
    pub(super) fn set_busy(&self) {
        self.driver.state.set_busy();
    }

    /// Hands the connection over to the keeper of idle ones.
    pub(super) fn set_idle(&self) {
        self.driver.state.set_idle();
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").finish_non_exhaustive()
    }
}
