//! The backlog of a body: the bytes that hyper has taken from it and has not yet written.
//!
//! hyper takes pieces of a body until it holds as many bytes as its buffer is large. That one size
//! also bounds how much hyper reads at once, which should be much, since every read and write costs
//! as much for few bytes as for many. So bodies have a bound of their own here.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};
use futures_util::task::AtomicWaker;

/// The bytes from which on a body is not asked for more. Few, since a small piece may keep the whole
/// buffer that it was read into. A single piece may be larger.
const MOST: usize = 4 * 1024;

/// A count of the bytes of a body that wait to be written. Clones are cheap and share the count.
#[derive(Clone, Debug, Default)]
pub struct Backlog(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    bytes: AtomicUsize,
    /// The task that waits for room.
    task: AtomicWaker,
}

/// A piece of a body. As long as it exists, its bytes count as waiting.
#[derive(Debug)]
pub struct Piece {
    bytes: Bytes,
    counted: Option<(Backlog, usize)>,
}

impl Backlog {
    /// Waits until the body may be asked for more.
    pub fn poll_room(&self, cx: &Context<'_>) -> Poll<()> {
        let Inner { bytes, task } = &*self.0;
        if bytes.load(Ordering::Acquire) < MOST {
            return Poll::Ready(());
        }
        task.register(cx.waker());
        // Read again, since a piece may have been written before the task was registered.
        if bytes.load(Ordering::Acquire) < MOST {
            return Poll::Ready(());
        }
        Poll::Pending
    }

    /// Counts `bytes` as waiting until the piece is dropped.
    #[must_use]
    pub fn hold(&self, bytes: Bytes) -> Piece {
        let length = bytes.len();
        self.0.bytes.fetch_add(length, Ordering::Relaxed);
        Piece {
            bytes,
            counted: Some((self.clone(), length)),
        }
    }
}

/// Makes a piece that is not counted.
impl From<Bytes> for Piece {
    fn from(bytes: Bytes) -> Self {
        Self {
            bytes,
            counted: None,
        }
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        if let Some((backlog, length)) = self.counted.take() {
            backlog.0.bytes.fetch_sub(length, Ordering::Release);
            backlog.0.task.wake();
        }
    }
}

impl Buf for Piece {
    fn remaining(&self) -> usize {
        self.bytes.remaining()
    }

    fn chunk(&self) -> &[u8] {
        self.bytes.chunk()
    }

    fn advance(&mut self, count: usize) {
        self.bytes.advance(count);
    }

    fn copy_to_bytes(&mut self, length: usize) -> Bytes {
        self.bytes.copy_to_bytes(length)
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    #[test]
    fn a_body_waits_while_much_of_it_is_unwritten() {
        let backlog = Backlog::default();
        let cx = Context::from_waker(Waker::noop());
        let small = backlog.hold(Bytes::from_static(&[0; MOST - 1]));
        assert!(backlog.poll_room(&cx).is_ready());
        let large = backlog.hold(Bytes::from_static(&[0; 4 * MOST]));
        assert!(backlog.poll_room(&cx).is_pending());
        drop(large);
        assert!(backlog.poll_room(&cx).is_ready());
        drop(small);
        drop(Piece::from(Bytes::from_static(&[0; MOST])));
        assert!(backlog.poll_room(&cx).is_ready());
    }

    #[test]
    fn the_task_that_waits_is_woken_by_the_write() {
        use std::sync::atomic::AtomicBool;
        use std::task::Wake;

        #[derive(Default)]
        struct Woken(AtomicBool);

        impl Wake for Woken {
            fn wake(self: Arc<Self>) {
                self.0.store(true, Ordering::Relaxed);
            }
        }

        let (backlog, woken) = (Backlog::default(), Arc::new(Woken::default()));
        let mut piece = backlog.hold(Bytes::from_static(&[0; MOST]));
        let waker = Waker::from(woken.clone());
        assert!(backlog.poll_room(&Context::from_waker(&waker)).is_pending());
        piece.advance(MOST - 1);
        assert!(!woken.0.load(Ordering::Relaxed), "a byte is left");
        drop(piece);
        assert!(woken.0.load(Ordering::Relaxed));
    }
}
