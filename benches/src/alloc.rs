//! An allocator that counts allocations and their bytes while a [`Count`] runs.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicIsize, AtomicUsize, Ordering};

pub struct Counting;

/// Whether allocations are counted. The benchmarks count none while they measure time, since the shared counters would
/// slow threads down.
static ON: AtomicBool = AtomicBool::new(false);
static CALLS: AtomicUsize = AtomicUsize::new(0);
static BYTES: AtomicIsize = AtomicIsize::new(0);

fn count(calls: usize, bytes: isize) {
    if ON.load(Ordering::Relaxed) {
        CALLS.fetch_add(calls, Ordering::Relaxed);
        BYTES.fetch_add(bytes, Ordering::Relaxed);
    }
}

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(1, layout.size() as isize);
        // SAFETY: the caller keeps the contract of `GlobalAlloc`, which is also that of `System`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        count(0, -(layout.size() as isize));
        // SAFETY: the caller keeps the contract of `GlobalAlloc`, which is also that of `System`.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(1, size as isize - layout.size() as isize);
        // SAFETY: the caller keeps the contract of `GlobalAlloc`, which is also that of `System`.
        unsafe { System.realloc(at, layout, size) }
    }
}

/// The allocations that a [`Count`] saw: the number of calls, and the bytes allocated minus the bytes freed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Allocated {
    pub calls: usize,
    pub bytes: isize,
}

/// A running count of allocations, which holds the totals from its beginning.
pub struct Count(Allocated);

impl Count {
    pub fn begin() -> Self {
        ON.store(true, Ordering::SeqCst);
        Self(read())
    }

    pub fn end(self) -> Allocated {
        ON.store(false, Ordering::SeqCst);
        let now = read();
        Allocated {
            calls: now.calls - self.0.calls,
            bytes: now.bytes - self.0.bytes,
        }
    }
}

fn read() -> Allocated {
    Allocated {
        calls: CALLS.load(Ordering::SeqCst),
        bytes: BYTES.load(Ordering::SeqCst),
    }
}
