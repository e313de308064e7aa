//! A connection in HTTP/1.1 that is driven by the task of the request it serves.
//!
//! hyper's connection is a future apart from its requests, and usually runs in a task of its own.
//! Each request would then wake two tasks, possibly on two threads.

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
use pin_project_lite::pin_project;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::task::unconstrained;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::buffers;
use crate::upstream::idle::IdleConnections;
use crate::upstream::kept::{Kept, Life};
use crate::upstream::outgoing::Outgoing;
use crate::upstream::waker::ConnectionWaker;

/// The most times that a connection and its user are polled in turn, within one poll of their task.
const ROUNDS: usize = 8;

/// A connection, with everything that is needed to use it for another request.
pub(super) struct Connection {
    sender: SendRequest<Outgoing>,
    driver: Driver,
    life: Life,
    home: Arc<IdleConnections>,
}

/// The reason why there is no response to a request.
pub(super) enum SendError {
    /// The response did not come in time.
    Late,
    /// hyper's error. It contains the request if no byte of the request was written.
    Failed(Box<TrySendError<Request<Outgoing>>>),
}

/// A connection's future, which reads and writes, and the means to wake it.
struct Driver {
    /// hyper's future of the connection. `None` once the connection has ended.
    future: Option<Pin<Box<dyn Future<Output = hyper::Result<()>> + Send>>>,
    state: Arc<ConnectionWaker>,
    waker: Waker,
    /// A timer that wakes the task at the end of the wait for a response. It may fire earlier than
    /// that, since a new request does not move it to a later time. The task then checks the time
    /// and sets the timer again.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Driver {
    /// Polls the connection if it was woken, then polls `user`. Repeats the two polls as long as
    /// the connection was woken meanwhile.
    fn drive<T>(
        &mut self,
        cx: &mut Context<'_>,
        mut user: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        for _ in 0..ROUNDS {
            self.advance();
            let polled = user(&mut Context::from_waker(&self.waker));
            if polled.is_pending() {
                // A wake before this is noticed by the end of the poll.
                self.state.serve(cx.waker());
            }
            let woken = self.state.end_poll();
            if polled.is_ready() || !woken {
                return polled;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Sets the timer to `due`, if it is set to a later time.
    fn hurry(&mut self, due: Instant) {
        if let Some(timer) = self.timer.as_mut().filter(|timer| due < timer.deadline()) {
            timer.as_mut().reset(due);
        }
    }

    /// Becomes ready at the time that `due` returns.
    fn poll_late(&mut self, due: &impl Fn() -> Instant) -> Poll<()> {
        if self.timer.as_ref().is_some_and(|timer| !timer.is_elapsed()) {
            return Poll::Pending;
        }
        let timer = self
            .timer
            .get_or_insert_with(|| Box::pin(sleep_until(due())));
        let mut cx = Context::from_waker(&self.waker);
        loop {
            // Polled without tokio's coop budget. With an exhausted budget, the timer would be
            // pending although it has fired.
            let mut sleep = pin!(unconstrained(timer.as_mut()));
            ready!(sleep.as_mut().poll(&mut cx));
            let due = due();
            if due <= Instant::now() {
                return Poll::Ready(());
            }
            timer.as_mut().reset(due);
        }
    }

    /// Begins a round of polling: polls the connection if it has something to do.
    fn advance(&mut self) {
        if !self.state.begin_poll() {
            return;
        }
        if let Some(future) = &mut self.future {
            let mut cx = Context::from_waker(&self.waker);
            // Ignores the connection's error, since the request or the body returns it.
            if future.as_mut().poll(&mut cx).is_ready() {
                self.future = None;
            }
        }
    }
}

pin_project! {
    /// The future of the response to a request. An `async fn` would contain `answer` twice.
    struct Answer<'a, F, D> {
        #[pin]
        answer: F,
        connection: &'a mut Connection,
        due: D,
    }
}

impl<F, D> Future for Answer<'_, F, D>
where
    F: Future<Output = Result<Response<Incoming>, TrySendError<Request<Outgoing>>>>,
    D: Fn() -> Instant,
{
    type Output = Result<Response<Incoming>, SendError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let Connection { driver, life, .. } = &mut **this.connection;
        match driver.drive(cx, |cx| this.answer.as_mut().poll(cx)) {
            Poll::Ready(Ok(response)) => {
                life.set_served();
                Poll::Ready(Ok(response))
            }
            Poll::Ready(Err(error)) => Poll::Ready(Err(SendError::Failed(Box::new(error)))),
            Poll::Pending => driver.poll_late(this.due).map(|()| Err(SendError::Late)),
        }
    }
}

impl Connection {
    /// Begins to speak HTTP/1.1 over `stream`. When the connection becomes idle, it moves to the
    /// list `home`. While the connection is idle, it notifies `keeper` when something happens to
    /// it. The task that closes idle connections waits for `keeper`.
    ///
    /// # Errors
    ///
    /// hyper's error. hyper's current version returns none here.
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

    /// Sends a request, and waits for the head of the response until the time that `due` returns.
    /// Calls `due` again at that time, since the time may have moved.
    ///
    /// # Errors
    ///
    /// [`SendError`], when there is no response.
    ///
    /// # Cancel safety
    ///
    /// Not safe: if the future is dropped before the response, the connection cannot be used again.
    pub(super) fn send<D: Fn() -> Instant>(
        &mut self,
        request: Request<Outgoing>,
        due: D,
    ) -> impl Future<Output = Result<Response<Incoming>, SendError>> {
        let answer = self.sender.try_send_request(request);
        self.driver.hurry(due());
        Answer {
            answer,
            connection: self,
            due,
        }
    }

    /// Polls `body`, which comes over this connection, and the connection itself.
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

    /// Returns the record of what has passed over the connection.
    pub(super) const fn life(&self) -> &Life {
        &self.life
    }

    /// Returns the lists of idle connections of the connection's upstream.
    pub(super) fn home(&self) -> &IdleConnections {
        &self.home
    }

    /// Returns whether the next request may be sent over this connection. First polls the
    /// connection if it was woken, so that an end of the connection is noticed.
    pub(super) fn is_usable(&mut self) -> bool {
        if self.driver.state.is_woken() {
            self.driver.advance();
            self.driver.state.end_poll();
        }
        self.driver.future.is_some() && self.sender.is_ready()
    }

    /// Puts the connection into its upstream's idle list if it can serve another request. Otherwise
    /// closes it.
    pub(super) fn give_back(mut self: Box<Self>) {
        if self.is_usable() {
            IdleConnections::put(self);
        }
    }

    /// Marks the connection as in use. From now on it wakes the task of its request, and not the
    /// task that closes idle connections.
    pub(super) fn set_busy(&self) {
        self.driver.state.set_busy();
    }

    /// Marks the connection as idle. From now on it wakes the task that closes idle connections.
    pub(super) fn set_idle(&self) {
        self.driver.state.set_idle();
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").finish_non_exhaustive()
    }
}
