//! The cleanup of a lock takes the value out of the lock, and cleans the value while the lock is free.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use lifecycle_runtime::{Component, DynComponent, GracefulShutdown, Outcome};
use lifecycle_tests::{Hold, Owner, Probe, TimedPart, Trace, context};
use tokio::sync::oneshot::{self, error::TryRecvError};
use tokio::task::JoinHandle;
use tokio_test::{assert_pending, assert_ready_ok, task::spawn};

type Inside = Option<Probe>;

/// The operations of a lock that the tests need, implemented for each of the four kinds of locks.
trait Lock: Send + Sync + 'static
where
    for<'a> &'a Self: Component,
{
    type Guard<'a>: std::ops::DerefMut<Target = Inside>;
    fn new(inside: Inside) -> Arc<Self>;
    /// Locks the lock, as code of the server does outside the shutdown.
    fn hold(&self) -> Self::Guard<'_>;
}

impl Lock for std::sync::Mutex<Inside> {
    type Guard<'a> = std::sync::MutexGuard<'a, Inside>;
    fn new(inside: Inside) -> Arc<Self> {
        Arc::new(inside.into())
    }
    fn hold(&self) -> Self::Guard<'_> {
        self.try_lock().unwrap()
    }
}

impl Lock for std::sync::RwLock<Inside> {
    type Guard<'a> = std::sync::RwLockWriteGuard<'a, Inside>;
    fn new(inside: Inside) -> Arc<Self> {
        Arc::new(inside.into())
    }
    fn hold(&self) -> Self::Guard<'_> {
        self.try_write().unwrap()
    }
}

impl Lock for tokio::sync::Mutex<Inside> {
    type Guard<'a> = tokio::sync::MutexGuard<'a, Inside>;
    fn new(inside: Inside) -> Arc<Self> {
        Arc::new(inside.into())
    }
    fn hold(&self) -> Self::Guard<'_> {
        self.try_lock().unwrap()
    }
}

impl Lock for tokio::sync::RwLock<Inside> {
    type Guard<'a> = tokio::sync::RwLockWriteGuard<'a, Inside>;
    fn new(inside: Inside) -> Arc<Self> {
        Arc::new(inside.into())
    }
    fn hold(&self) -> Self::Guard<'_> {
        self.try_write().unwrap()
    }
}

/// Runs each test with each of the four kinds of locks.
macro_rules! for_every_lock {
    ($($(#[$meta:meta])* $name:ident)*) => {
        mod std_mutex { $(#[tokio::test(start_paused = true)] async fn $name() { super::$name::<std::sync::Mutex<super::Inside>>().await; })* }
        mod std_rwlock { $(#[tokio::test(start_paused = true)] async fn $name() { super::$name::<std::sync::RwLock<super::Inside>>().await; })* }
        mod tokio_mutex { $(#[tokio::test(start_paused = true)] async fn $name() { super::$name::<tokio::sync::Mutex<super::Inside>>().await; })* }
        mod tokio_rwlock { $(#[tokio::test(start_paused = true)] async fn $name() { super::$name::<tokio::sync::RwLock<super::Inside>>().await; })* }
    };
}

for_every_lock! {
    the_lock_is_free_while_the_taken_value_is_cleaned
    a_second_cleanup_takes_the_value_that_was_put_in_since
    a_cleanup_waits_until_the_lock_is_free
    a_lock_that_is_never_free_is_named_in_the_report
    an_acquired_lock_is_not_named_any_more
    an_interrupted_cleanup_can_be_resumed
    a_value_that_was_put_in_meanwhile_is_replaced_by_the_one_that_was_taken
    a_taken_value_is_aborted_and_released_if_the_lock_is_not_free
    a_failed_cleanup_puts_the_value_back
    a_panicked_cleanup_puts_the_value_back
    a_value_that_hangs_is_aborted
    aborting_and_releasing_take_the_value_out
    aborting_and_releasing_do_nothing_if_the_lock_is_not_free
    only_the_last_owner_of_a_lock_releases_the_value
}

fn held<L: Lock>(trace: &Trace) -> (Arc<L>, Hold)
where
    for<'a> &'a L: Component,
{
    let (probe, hold) = Probe::held(trace, "a");
    (L::new(Some(probe)), hold)
}

async fn the_lock_is_free_while_the_taken_value_is_cleaned<L: Lock>()
where
    for<'a> &'a L: Component,
{
    let trace = Trace::new();
    let (mut lock, hold) = held::<L>(&trace);
    let theirs = Arc::clone(&lock);
    let cx = context();
    let mut cleanup = spawn(lock.cleanup(&cx));
    assert_pending!(cleanup.poll());
    assert!(theirs.hold().is_none());
    hold.release();
    assert_ready_ok!(cleanup.poll());
    drop(cleanup);
    assert!(theirs.hold().is_none());
    assert_eq!(trace.take(), ["a begins", "a ends"]);
}

async fn a_second_cleanup_takes_the_value_that_was_put_in_since<L: Lock>()
where
    for<'a> &'a L: Component,
{
    let trace = Trace::new();
    let mut lock = L::new(Some(Probe::new(&trace, "a")));
    lock.cleanup(&context()).await.unwrap();
    lock.cleanup(&context()).await.unwrap();
    assert_eq!(trace.take(), ["a begins", "a ends"]);
    *lock.hold() = Some(Probe::new(&trace, "b"));
    lock.cleanup(&context()).await.unwrap();
    assert_eq!(trace.take(), ["b begins", "b ends"]);
}

async fn a_cleanup_waits_until_the_lock_is_free<L: Lock>()
where
    for<'a> &'a L: Component,
{
    let trace = Trace::new();
    let mut lock = L::new(Some(Probe::new(&trace, "a")));
    let theirs = Arc::clone(&lock);
    let guard = theirs.hold();
    let cx = context();
    let mut cleanup = spawn(lock.cleanup(&cx));
    assert_pending!(cleanup.poll());
    assert_eq!(trace.take(), [""; 0]);
    drop(guard);
    cleanup.await.unwrap();
    assert_eq!(trace.take(), ["a begins", "a ends"]);
}

async fn a_lock_that_is_never_free_is_named_in_the_report<L: Lock>()
where
    for<'a> &'a L: Component,
{
    let lock = L::new(None);
    let theirs = Arc::clone(&lock);
    let _guard = theirs.hold();
    let report = Owner::new(lock).shutdown().await;
    let outcome = report.step("field").unwrap().outcome();
    assert!(
        matches!(outcome, Outcome::TimedOut { waiting_for: Some(what) } if what == "its lock"),
        "{report}"
    );
}

async fn an_acquired_lock_is_not_named_any_more<L: Lock>()
where
    for<'a> &'a L: Component,
{
    let trace = Trace::new();
    let lock = L::new(Some(Probe::new(&trace, "a").hang()));
    let theirs = Arc::clone(&lock);
    let guard = theirs.hold();
    let mut owner = Owner::new(lock);
    let mut shutdown = spawn(owner.shutdown());
    assert_pending!(shutdown.poll());
    drop(guard);
    let report = shutdown.await;
    let outcome = report.step("field").unwrap().outcome();
    assert!(
        matches!(outcome, Outcome::TimedOut { waiting_for: None }),
        "{report}"
    );
    assert_eq!(trace.count("a aborts"), 1);
}

async fn an_interrupted_cleanup_can_be_resumed<L: Lock>()
where
    for<'a> &'a L: Component,
{
    let trace = Trace::new();
    let (mut lock, hold) = held::<L>(&trace);
    assert_pending!(spawn(lock.cleanup(&context())).poll());
    assert!(lock.hold().is_some());
    hold.release();
    lock.cleanup(&context()).await.unwrap();
    assert!(lock.hold().is_none());
    assert_eq!(trace.take(), ["a begins", "a is cut", "a begins", "a ends"]);
}

async fn a_value_that_was_put_in_meanwhile_is_replaced_by_the_one_that_was_taken<L: Lock>()
where
    for<'a> &'a L: Component,
{
    let trace = Trace::new();
    let (mut lock, _hold) = held::<L>(&trace);
    let theirs = Arc::clone(&lock);
    let cx = context();
    let mut cleanup = spawn(lock.cleanup(&cx));
    assert_pending!(cleanup.poll());
    *theirs.hold() = Some(Probe::new(&trace, "late"));
    drop(cleanup);
    assert_eq!(
        trace.take(),
        ["a begins", "a is cut", "late aborts", "late releases"]
    );
    lock.abort();
    assert_eq!(trace.take(), ["a aborts"]);
}

async fn a_taken_value_is_aborted_and_released_if_the_lock_is_not_free<L: Lock>()
where
    for<'a> &'a L: Component,
{
    let trace = Trace::new();
    let (mut lock, _hold) = held::<L>(&trace);
    let theirs = Arc::clone(&lock);
    let cx = context();
    let mut cleanup = spawn(lock.cleanup(&cx));
    assert_pending!(cleanup.poll());
    let guard = theirs.hold();
    drop(cleanup);
    assert_eq!(
        trace.take(),
        ["a begins", "a is cut", "a aborts", "a releases"]
    );
    drop(guard);
    assert!(theirs.hold().is_none());
}

async fn a_failed_cleanup_puts_the_value_back<L: Lock>()
where
    for<'a> &'a L: Component,
{
    let trace = Trace::new();
    let mut lock = L::new(Some(Probe::new(&trace, "a").error("no")));
    assert_eq!(
        lock.cleanup(&context()).await.unwrap_err().to_string(),
        "no"
    );
    assert!(lock.hold().is_some());
    // The cleanup of the owner's step fails again and puts the value back, so the engine's abort finds the value in the
    // lock.
    let report = Owner::new(lock).shutdown().await;
    assert_eq!(
        report.step("field").unwrap().outcome().to_string(),
        "failed: no"
    );
    assert_eq!(trace.count("a aborts"), 1);
}

async fn a_panicked_cleanup_puts_the_value_back<L: Lock>()
where
    for<'a> &'a L: Component,
{
    let trace = Trace::new();
    let lock = L::new(Some(Probe::new(&trace, "a").panic("bad")));
    let report = Owner::new(Arc::clone(&lock)).shutdown().await;
    assert_eq!(
        report.step("field").unwrap().outcome().to_string(),
        "panicked: bad"
    );
    assert_eq!(trace.take(), ["a begins", "a aborts"]);
    assert!(lock.hold().is_none(), "the abort took the value out");
}

async fn a_value_that_hangs_is_aborted<L: Lock>()
where
    for<'a> &'a L: Component,
{
    let trace = Trace::new();
    let lock = L::new(Some(Probe::new(&trace, "a").says("its peer").hang()));
    let report = Owner::new(lock).shutdown().await;
    let outcome = report.step("field").unwrap().outcome();
    assert_eq!(outcome.to_string(), "timed out: waiting for its peer");
    assert_eq!(trace.take(), ["a begins", "a is cut", "a aborts"]);
}

async fn aborting_and_releasing_take_the_value_out<L: Lock>()
where
    for<'a> &'a L: Component,
{
    let trace = Trace::new();
    let mut lock = L::new(Some(Probe::new(&trace, "a")));
    lock.abort();
    lock.abort();
    assert_eq!(trace.take(), ["a aborts"]);
    *lock.hold() = Some(Probe::new(&trace, "b"));
    lock.release();
    lock.release();
    assert_eq!(trace.take(), ["b releases"]);
}

async fn aborting_and_releasing_do_nothing_if_the_lock_is_not_free<L: Lock>()
where
    for<'a> &'a L: Component,
{
    let trace = Trace::new();
    let lock = L::new(Some(Probe::new(&trace, "a")));
    let guard = lock.hold();
    let mut theirs = &*lock;
    theirs.abort();
    theirs.release();
    drop(guard);
    assert_eq!(trace.take(), [""; 0]);
}

async fn only_the_last_owner_of_a_lock_releases_the_value<L: Lock>()
where
    for<'a> &'a L: Component,
{
    let trace = Trace::new();
    let lock = L::new(Some(Probe::new(&trace, "a")));
    drop(Owner::new(Arc::clone(&lock)));
    assert_eq!(trace.take(), [""; 0]);
    drop(Owner::new(lock));
    assert_eq!(trace.take(), ["a releases"]);
}

#[tokio::test(start_paused = true)]
async fn a_poisoned_lock_is_cleaned_as_usual() {
    let trace = Trace::new();
    let mutex = Arc::new(std::sync::Mutex::new(Some(Probe::new(&trace, "a"))));
    let rwlock = Arc::new(std::sync::RwLock::new(Some(Probe::new(&trace, "b"))));
    let poisoned = catch_unwind(AssertUnwindSafe(|| {
        let _guards = (mutex.lock(), rwlock.write());
        panic!("poison");
    }));
    assert!(poisoned.is_err() && mutex.is_poisoned() && rwlock.is_poisoned());
    let report = Owner::new((mutex, rwlock)).shutdown().await;
    assert!(report.is_clean(), "{report}");
    assert_eq!(trace.take(), ["a begins", "a ends", "b begins", "b ends"]);
}

#[tokio::test(start_paused = true)]
async fn an_owned_lock_is_transparent_and_needs_no_default() {
    let trace = Trace::new();
    let part = |name| TimedPart {
        probe: Probe::new(&trace, name),
    };
    let all = (
        std::sync::Mutex::new(part("a")),
        std::sync::RwLock::new(part("b")),
        tokio::sync::Mutex::new(part("c")),
        tokio::sync::RwLock::new(part("d")),
    );
    let mut owner = Owner::new(all);
    for place in 0..4 {
        let budget = owner.plan().step_budget(&format!("field.{place}.probe"));
        assert_eq!(budget, Some(Duration::from_secs(3)));
    }
    owner.field.abort();
    owner.field.release();
    trace.take();
    let report = owner.shutdown().await;
    assert!(report.is_clean(), "{report}");
    assert!(report.step("field.3.probe").is_some(), "{report}");
    assert_eq!(trace.all().len(), 8);
}

#[tokio::test(start_paused = true)]
async fn elements_inside_a_lock_have_rows_and_are_cleaned_again_when_resumed() {
    let trace = Trace::new();
    let (b, hold) = Probe::held(&trace, "b");
    let list = Arc::new(std::sync::Mutex::new(vec![Probe::new(&trace, "a"), b]));
    let mut owner = Owner::new(Arc::clone(&list));
    assert_pending!(spawn(owner.shutdown()).poll());
    assert_eq!(list.lock().unwrap().len(), 2);
    trace.take();
    hold.release();
    let report = owner.shutdown().await;
    let mut seen = trace.take();
    seen.sort();
    assert_eq!(seen, ["a begins", "a ends", "b begins", "b ends"]);
    assert!(
        report.step("field[0]").is_some() && report.step("field[1]").is_some(),
        "{report}"
    );
    assert!(list.lock().unwrap().is_empty());
}

#[test]
fn a_shared_lock_has_the_plan_of_its_value() {
    let trace = Trace::new();
    let object: Box<dyn DynComponent> = Box::new(TimedPart {
        probe: Probe::new(&trace, "a"),
    });
    let lock = Arc::new(tokio::sync::Mutex::new(Some(object)));
    let mut owner = Owner::new(Arc::clone(&lock));
    assert_eq!(
        owner.plan().step_budget("field"),
        Some(Duration::from_secs(3))
    );
    let guard = lock.try_lock().unwrap();
    assert_eq!(
        owner.plan().step_budget("field"),
        None,
        "nobody waits for a lock to show a plan"
    );
    drop(guard);
    owner.state.disarm();
    assert_eq!(
        Arc::<std::sync::Mutex<Option<TimedPart>>>::PLAN.budget(),
        Some(Duration::from_secs(3))
    );
}

#[test]
fn a_lock_is_waited_for_on_a_runtime_without_time() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let trace = Trace::new();
    let mut lock = Arc::new(std::sync::Mutex::new(Some(Probe::new(&trace, "a"))));
    let theirs = Arc::clone(&lock);
    runtime.block_on(async {
        let guard = theirs.lock().unwrap();
        let cx = context();
        let mut cleanup = spawn(lock.cleanup(&cx));
        assert_pending!(cleanup.poll());
        drop(guard);
        cleanup.await.unwrap();
    });
    assert_eq!(trace.take(), ["a begins", "a ends"]);
}

#[tokio::test(start_paused = true)]
async fn tasks_in_a_shared_list_have_ended_when_the_shutdown_ends() {
    let list: Arc<std::sync::Mutex<Vec<JoinHandle<()>>>> = Arc::default();
    let (tell, mut ended) = oneshot::channel::<()>();
    list.lock().unwrap().push(tokio::spawn(async move {
        let _tell = tell;
        std::future::pending().await
    }));
    let report = Owner::new(Arc::clone(&list)).shutdown().await;
    let outcome = report.step("field[0]").unwrap().outcome();
    assert!(matches!(outcome, Outcome::TimedOut { .. }), "{report}");
    assert_eq!(ended.try_recv(), Err(TryRecvError::Closed));
}
