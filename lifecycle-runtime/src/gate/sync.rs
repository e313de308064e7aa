//! The synchronisation primitives of the gate: those of std and tokio, or under loom those of loom.

#[cfg(not(lifecycle_loom))]
mod real {
    pub(in crate::gate) use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    pub(in crate::gate) use tokio::sync::Notify;

    thread_local! {
        /// The number that selects the thread's shard. Threads are numbered in the order in which they first enter a
        /// gate.
        static SHARD: usize = {
            static NEXT: AtomicUsize = AtomicUsize::new(0);
            NEXT.fetch_add(1, Ordering::Relaxed)
        };
    }

    /// Returns the number of the calling thread, which never changes. Threads that first enter one after the other get
    /// different numbers.
    #[inline]
    pub(in crate::gate) fn shard_of_thread() -> usize {
        // The number is zero while the thread is being destroyed: at worst the thread then shares a cache line with
        // another.
        SHARD.try_with(|shard| *shard).unwrap_or(0)
    }
}

#[cfg(not(lifecycle_loom))]
pub(super) use real::{AtomicBool, AtomicUsize, Notify, Ordering, shard_of_thread};

#[cfg(lifecycle_loom)]
mod model {
    use std::future::Future;
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};

    pub(in crate::gate) use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

    /// A replacement of `tokio::sync::Notify` for loom, as far as the gate uses it: `notify_waiters` wakes every
    /// `Notified` that was created before the call.
    pub(in crate::gate) struct Notify(loom::sync::Mutex<(u64, Vec<Waker>)>);

    impl Notify {
        pub(in crate::gate) fn new() -> Self {
            Self(loom::sync::Mutex::new((0, Vec::new())))
        }

        pub(in crate::gate) fn notify_waiters(&self) {
            let woken = {
                let mut state = self.0.lock().unwrap();
                state.0 += 1;
                std::mem::take(&mut state.1)
            };
            woken.into_iter().for_each(Waker::wake);
        }

        pub(in crate::gate) fn notified(&self) -> Notified<'_> {
            let asked = self.0.lock().unwrap().0;
            Notified {
                notify: self,
                asked,
            }
        }
    }

    pub(in crate::gate) struct Notified<'a> {
        notify: &'a Notify,
        asked: u64,
    }

    impl Future for Notified<'_> {
        type Output = ();

        fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
            let mut state = self.notify.0.lock().unwrap();
            if state.0 > self.asked {
                return Poll::Ready(());
            }
            state.1.push(cx.waker().clone());
            Poll::Pending
        }
    }

    loom::thread_local! {
        static SHARD: usize = {
            // Loom numbers the threads of a test, and the main thread has the first number.
            let id = format!("{:?}", loom::thread::current().id());
            id.chars().filter_map(|c| c.to_digit(10)).last().unwrap_or(0) as usize
        };
    }

    pub(in crate::gate) fn shard_of_thread() -> usize {
        SHARD.with(|shard| *shard)
    }
}

#[cfg(lifecycle_loom)]
pub(super) use model::{AtomicBool, AtomicUsize, Notify, Ordering, shard_of_thread};
