//! When the shutdown of a part is interrupted and resumed, the report keeps all rows of the first run. Each row is at
//! the path of its field.

use std::sync::mpsc::{Receiver, Sender, channel};

use lifecycle_runtime::{BoxError, Component, Context, GracefulShutdown, Outcome, ShutdownState};
use tokio::task::JoinHandle;
use tokio_test::assert_pending;
use tokio_test::task::spawn;
use tokio_util::task::AbortOnDropHandle;

/// A database whose close blocks until the test lets it end, and then fails.
struct Db(Receiver<()>);

impl Db {
    fn close(&mut self) -> Result<(), BoxError> {
        let _ = self.0.recv();
        Err("the disk is full".into())
    }
}

#[derive(GracefulShutdown)]
#[shutdown(part)]
struct Storage {
    #[shutdown(blocking, with = Db::close)]
    db: Option<Db>,
}

#[derive(GracefulShutdown)]
struct Server {
    #[shutdown]
    storage: Option<Storage>,
    #[shutdown(state)]
    state: ShutdownState,
}

#[derive(GracefulShutdown)]
struct Direct {
    #[shutdown]
    storage: Storage,
    #[shutdown(state)]
    state: ShutdownState,
}

#[derive(GracefulShutdown)]
struct Listed {
    #[shutdown]
    storages: Vec<Storage>,
    #[shutdown(state)]
    state: ShutdownState,
}

fn storage() -> (Storage, Sender<()>) {
    let (sender, receiver) = channel();
    let db = Some(Db(receiver));
    (Storage { db }, sender)
}

#[tokio::test]
async fn a_blocking_call_of_a_part_in_a_field_is_awaited_by_the_next_run() {
    let (storage, ends) = storage();
    let mut server = Direct {
        storage,
        state: ShutdownState::new(),
    };
    assert_pending!(spawn(server.shutdown()).poll());
    drop(ends);
    let report = server.shutdown().await;
    let outcome = report.step("storage.db").expect("a row").outcome();
    assert!(matches!(outcome, Outcome::Failed(_)), "{report}");
}

#[tokio::test]
async fn a_blocking_call_of_a_part_in_an_option_is_reported_as_aborted() {
    let (storage, ends) = storage();
    let mut server = Server {
        storage: Some(storage),
        state: ShutdownState::new(),
    };
    assert_pending!(spawn(server.shutdown()).poll());
    drop(ends);
    let report = server.shutdown().await;
    // The engine cannot know whether the option still holds the same value as in the first run.
    assert!(!report.is_clean(), "the call was not awaited: {report}");
    let outcome = report.step("storage.db").expect("a row").outcome();
    assert!(matches!(outcome, Outcome::Aborted), "{report}");
}

#[tokio::test]
async fn a_blocking_call_of_an_element_is_reported_as_aborted() {
    let (storage, ends) = storage();
    let mut server = Listed {
        storages: vec![storage],
        state: ShutdownState::new(),
    };
    assert_pending!(spawn(server.shutdown()).poll());
    drop(ends);
    let report = server.shutdown().await;
    assert!(!report.is_clean(), "the call was not awaited: {report}");
}

struct Fails;
struct Hangs;

impl Component for Fails {
    async fn cleanup(&mut self, _: &Context) -> Result<(), BoxError> {
        Err("no".into())
    }
}

impl Component for Hangs {
    async fn cleanup(&mut self, _: &Context) -> Result<(), BoxError> {
        std::future::pending().await
    }
}

#[derive(GracefulShutdown)]
#[shutdown(part)]
struct Shard {
    #[shutdown(priority = 0)]
    index: Fails,
    #[shutdown(priority = 0)]
    log: Hangs,
}

#[derive(GracefulShutdown)]
struct Sharded {
    #[shutdown]
    shards: Vec<Shard>,
    #[shutdown(state)]
    state: ShutdownState,
}

#[tokio::test(start_paused = true)]
async fn a_failed_row_of_an_earlier_run_is_kept_at_the_path_of_its_element() {
    let shard = || Shard {
        index: Fails,
        log: Hangs,
    };
    let mut server = Sharded {
        shards: vec![shard(), shard()],
        state: ShutdownState::new(),
    };
    assert_pending!(spawn(server.shutdown()).poll());
    let report = server.shutdown().await;
    assert!(report.step("shards[1].index").is_some(), "{report}");
    let stray = report.step("shards.index");
    assert!(stray.is_none(), "no field is at that path: {report}");
}

#[derive(GracefulShutdown)]
#[shutdown(part)]
struct Extras {
    #[shutdown(best_effort)]
    shard: Shard,
}

#[derive(GracefulShutdown)]
struct WithExtras {
    #[shutdown]
    extras: Option<Extras>,
    #[shutdown(state)]
    state: ShutdownState,
}

#[tokio::test(start_paused = true)]
async fn a_best_effort_step_that_failed_in_an_earlier_run_leaves_the_report_clean() {
    let server = || WithExtras {
        extras: Some(Extras {
            shard: Shard {
                index: Fails,
                log: Hangs,
            },
        }),
        state: ShutdownState::new(),
    };
    let report = server().shutdown().await;
    assert!(report.is_clean(), "without an interruption: {report}");

    let mut server = server();
    assert_pending!(spawn(server.shutdown()).poll());
    let report = server.shutdown().await;
    assert!(report.is_clean(), "in two runs: {report}");
}

#[derive(GracefulShutdown)]
#[shutdown(part)]
enum Mode {
    Writes {
        #[shutdown]
        log: Hangs,
    },
    Reads {
        #[shutdown(priority = 0)]
        cache: Ends,
        #[shutdown(priority = 1)]
        index: Ends,
    },
}

struct Ends;

impl Component for Ends {
    async fn cleanup(&mut self, _: &Context) -> Result<(), BoxError> {
        Ok(())
    }
}

#[derive(GracefulShutdown)]
struct InMode {
    #[shutdown]
    mode: Mode,
    #[shutdown(state)]
    state: ShutdownState,
}

#[tokio::test(start_paused = true)]
async fn a_replaced_variant_is_reported_as_aborted() {
    let mut server = InMode {
        mode: Mode::Writes { log: Hangs },
        state: ShutdownState::new(),
    };
    assert_pending!(spawn(server.shutdown()).poll());
    server.mode = Mode::Reads {
        cache: Ends,
        index: Ends,
    };
    let report = server.shutdown().await;
    let log = report.step("mode.log").expect("it had begun").outcome();
    assert!(matches!(log, Outcome::Aborted), "{report}");
    for path in ["mode.cache", "mode.index"] {
        let outcome = report.step(path).expect("it is there now").outcome();
        assert!(outcome.is_done(), "{report}");
    }
}

type Task = JoinHandle<Result<(), BoxError>>;

#[derive(GracefulShutdown)]
struct Lists<T: Component> {
    #[shutdown(priority = 0)]
    one: Vec<Task>,
    #[shutdown(priority = 0)]
    two: Vec<T>,
    #[shutdown(state)]
    state: ShutdownState,
}

/// Asserts that the second run still knows a task that failed in the first run, and that the report has the failure
/// once.
async fn assert_known<T: Component>(wrap: impl Fn(Task) -> T) {
    let endless = || tokio::spawn(std::future::pending());
    let (fails, hangs) = (tokio::spawn(async { Err("no".into()) }), endless());
    let hanging = hangs.abort_handle();
    let mut server = Lists {
        one: vec![endless()],
        two: vec![wrap(fails), wrap(hangs)],
        state: ShutdownState::new(),
    };
    tokio::task::yield_now().await;
    assert_pending!(spawn(server.shutdown()).poll());
    server.one[0].abort();
    hanging.abort();
    let report = server.shutdown().await;
    let two = report.step("two").expect("a row").steps();
    let outcomes: Vec<_> = two.iter().map(|step| step.outcome().to_string()).collect();
    assert_eq!(outcomes, ["failed: no", "done"], "{report}");
}

#[tokio::test(start_paused = true)]
async fn tasks_are_known_by_their_id_whatever_wraps_them() {
    assert_known(|task| task).await;
    assert_known(Some).await;
    assert_known(Box::new).await;
    assert_known(std::sync::Mutex::new).await;
    assert_known(tokio::sync::RwLock::new).await;
    assert_known(AbortOnDropHandle::new).await;
}
