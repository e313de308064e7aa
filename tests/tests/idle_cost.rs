//! A derived owner allocates nothing and spawns nothing before its shutdown, and allocates little during it.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use lifecycle_runtime::{BoxError, Component, Context, Gate, GracefulShutdown, ShutdownState};
use tokio::runtime::{Builder, Handle};
use tokio_test::assert_ready;
use tokio_test::task::spawn;

/// An allocator that counts the allocations of each thread.
struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

fn count() {
    // While a thread ends, its counter may already be destroyed. Such allocations are not counted.
    let _ = ALLOCATIONS.try_with(|allocations| allocations.set(allocations.get() + 1));
}

// SAFETY: every call goes unchanged to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract of `GlobalAlloc`, which is also that of `System`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `GlobalAlloc`, which is also that of `System`.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller keeps the contract of `GlobalAlloc`, which is also that of `System`.
        unsafe { System.realloc(ptr, layout, size) }
    }
}

#[global_allocator]
static GLOBAL: Counting = Counting;

/// Runs `f`, and returns the number of its allocations on this thread.
fn allocations<R>(f: impl FnOnce() -> R) -> (usize, R) {
    let before = ALLOCATIONS.get();
    let returned = f();
    (ALLOCATIONS.get() - before, returned)
}

struct Ready;

impl Component for Ready {
    async fn cleanup(&mut self, _: &Context) -> Result<(), BoxError> {
        Ok(())
    }
}

#[derive(GracefulShutdown)]
struct Two {
    #[shutdown]
    a: Ready,
    #[shutdown]
    b: Ready,
    #[shutdown(state)]
    state: ShutdownState,
}

#[derive(GracefulShutdown)]
struct Eight {
    #[shutdown]
    a: Ready,
    #[shutdown]
    b: Ready,
    #[shutdown]
    c: Ready,
    #[shutdown]
    d: Ready,
    #[shutdown]
    e: Ready,
    #[shutdown]
    f: Ready,
    #[shutdown]
    g: Ready,
    #[shutdown]
    h: Ready,
    #[shutdown(state)]
    state: ShutdownState,
}

fn two() -> Two {
    Two {
        a: Ready,
        b: Ready,
        state: ShutdownState::new(),
    }
}

fn eight() -> Eight {
    Eight {
        a: Ready,
        b: Ready,
        c: Ready,
        d: Ready,
        e: Ready,
        f: Ready,
        g: Ready,
        h: Ready,
        state: ShutdownState::new(),
    }
}

#[test]
fn the_state_is_at_most_16_bytes_and_the_owner_adds_nothing() {
    assert!(size_of::<ShutdownState>() <= 16);
    assert_eq!(size_of::<Eight>(), size_of::<ShutdownState>());
}

#[test]
fn an_owner_allocates_nothing_before_its_shutdown() {
    let (count, server) = allocations(|| {
        let mut server = Box::new(eight());
        // A shutdown begins with its first poll, so this one does not begin.
        drop(server.shutdown());
        server
    });
    assert_eq!(count, 1, "only the test's box");
    let (count, ()) = allocations(|| {
        let mut server = server;
        server.state.disarm();
    });
    assert_eq!(count, 0);
}

#[test]
fn an_owner_spawns_no_task_before_its_shutdown_and_none_during_it() {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let tasks = || Handle::current().metrics().num_alive_tasks();
        let before = tasks();
        let mut server = eight();
        assert_eq!(tasks(), before);
        assert!(server.shutdown().await.is_clean());
        assert_eq!(tasks(), before);
    });
}

#[test]
fn a_shutdown_needs_no_runtime_and_no_timer_while_its_steps_are_ready() {
    let mut server = eight();
    let report = assert_ready!(spawn(server.shutdown()).poll());
    assert!(report.is_clean(), "{report}");
}

#[test]
fn a_shutdown_allocates_no_more_for_eight_steps_than_for_two() {
    // The first shutdown of a process also allocates memory that all later shutdowns reuse, so it is not counted.
    assert_ready!(spawn(two().shutdown()).poll());
    let of_two = {
        let (mut server, mut waker) = (two(), spawn(()));
        waker.enter(|cx, _| {
            let mut shutdown = server.shutdown();
            allocations(|| assert_ready!(std::pin::Pin::new(&mut shutdown).poll(cx))).0
        })
    };
    let of_eight = {
        let (mut server, mut waker) = (eight(), spawn(()));
        waker.enter(|cx, _| {
            let mut shutdown = server.shutdown();
            allocations(|| assert_ready!(std::pin::Pin::new(&mut shutdown).poll(cx))).0
        })
    };
    assert_eq!(of_eight, of_two, "all rows share one allocation");
    assert!(of_two <= 12, "{of_two}");
}

#[test]
fn a_gate_reuses_the_memory_of_an_earlier_one() {
    // The drop of this gate leaves at least one set of counters free, whatever gates other tests hold.
    drop(Gate::new());
    for _ in 0..3 {
        let (count, gate) = allocations(Gate::new);
        assert_eq!(count, 2, "the shared state and the labels");
        // The pass is dropped after the gate, so the pass frees the counters.
        let pass = gate.enter();
        drop(gate);
        drop(pass);
    }
}
