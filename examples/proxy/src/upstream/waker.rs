//! The waker of a connection that has no task of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Wake, Waker};

use futures_util::task::AtomicWaker;
use tokio::sync::Notify;

/// The flag that something has happened since the connection was last polled.
const WOKEN: u8 = 1;

/// The flag that a task is polling the connection. That task checks `WOKEN` after the poll.
const POLLED: u8 = 2;

/// The flag that the connection waits for its next request, and belongs to no task.
const IDLE: u8 = 4;

/// A waker for the task that uses a connection. While the connection is idle, it is a waker for the
/// task that closes idle connections.
///
/// hyper also wakes a connection for actions of the connection's user, such as queueing a request
/// or polling for the next piece of a body. The task that polls the connection is itself that user,
/// and checks for a wake afterwards. So the waker does not schedule that task once more.
#[derive(Debug)]
pub(super) struct ConnectionWaker {
    state: AtomicU8,
    task: AtomicWaker,
    keeper: Arc<Notify>,
}

impl ConnectionWaker {
    /// Creates the waker of a connection that was not polled yet. A wake notifies `keeper` while
    /// the connection is idle.
    pub(super) fn new(keeper: Arc<Notify>) -> Self {
        Self {
            state: AtomicU8::new(WOKEN),
            task: AtomicWaker::new(),
            keeper,
        }
    }

    /// Sets the task that is woken from now on.
    pub(super) fn serve(&self, task: &Waker) {
        self.task.register(task);
    }

    /// Begins a poll. Returns whether the connection was woken since the last poll.
    pub(super) fn begin_poll(&self) -> bool {
        self.state.swap(POLLED, Ordering::AcqRel) & WOKEN != 0
    }

    /// Ends a poll. Returns whether the connection was woken during the poll.
    pub(super) fn end_poll(&self) -> bool {
        self.state.fetch_and(!POLLED, Ordering::AcqRel) & WOKEN != 0
    }

    /// Returns whether the connection was woken since the last poll.
    pub(super) fn is_woken(&self) -> bool {
        self.state.load(Ordering::Acquire) & WOKEN != 0
    }

    /// Marks the connection as in use, so that wakes go to its task.
    pub(super) fn set_busy(&self) {
        self.state.fetch_and(!IDLE, Ordering::AcqRel);
    }

    /// Marks the connection as idle, so that wakes go to the task that closes idle connections.
    pub(super) fn set_idle(&self) {
        // Drops the waker of the last task, since it keeps the memory of that task.
        drop(self.task.take());
        if self.state.fetch_or(IDLE, Ordering::AcqRel) & WOKEN != 0 {
            self.keeper.notify_one();
        }
    }
}

impl Wake for ConnectionWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let before = self.state.fetch_or(WOKEN, Ordering::AcqRel);
        if before & IDLE != 0 {
            self.keeper.notify_one();
        } else if before & POLLED == 0 {
            self.task.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use futures_util::FutureExt as _;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn the_task_is_woken_unless_it_is_polling_itself() {
        let (task, keeper) = (Arc::new(Count::default()), Arc::new(Notify::new()));
        let of_connection = Arc::new(ConnectionWaker::new(keeper.clone()));
        let waker = Waker::from(of_connection.clone());
        of_connection.serve(&Waker::from(task.clone()));

        assert!(of_connection.begin_poll(), "a new one has something to do");
        waker.wake_by_ref();
        assert!(of_connection.end_poll());
        assert_eq!(task.0.load(Ordering::Relaxed), 0);

        assert!(of_connection.begin_poll());
        assert!(!of_connection.end_poll());
        waker.wake_by_ref();
        assert_eq!(task.0.load(Ordering::Relaxed), 1);
        assert!(of_connection.begin_poll());
        assert!(keeper.notified().now_or_never().is_none());
    }

    #[test]
    fn an_idle_connection_wakes_the_keeper_also_for_what_came_just_before() {
        let keeper = Arc::new(Notify::new());
        let of_connection = Arc::new(ConnectionWaker::new(keeper.clone()));
        let waker = Waker::from(of_connection.clone());
        of_connection.begin_poll();
        of_connection.end_poll();
        of_connection.set_idle();
        assert!(keeper.notified().now_or_never().is_none());
        waker.wake_by_ref();
        assert!(keeper.notified().now_or_never().is_some());

        of_connection.begin_poll();
        waker.wake_by_ref();
        of_connection.end_poll();
        of_connection.set_idle();
        assert!(keeper.notified().now_or_never().is_some());
    }
}
