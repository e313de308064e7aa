//! `explore` passes a server that keeps the promises of a shutdown, and names the step that breaks them.

use std::any::Any;
use std::collections::BTreeSet;
use std::future::pending;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::time::Duration;

use lifecycle_runtime::testing::{Act, Explored, Fault, Scripted, explore};
use lifecycle_runtime::{
    BoxError, Component, Context, GracefulShutdown, ShutdownState, StateFile, TaskGroup,
};
use lifecycle_tests::{Probe, Trace, ms, secs};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

#[derive(GracefulShutdown)]
#[shutdown(part)]
struct Storage {
    #[shutdown(timeout = "2s", required)]
    writer: Scripted,
    #[shutdown(timeout = "1s")]
    disk: Scripted,
}

#[derive(GracefulShutdown)]
#[shutdown(part)]
enum Backend {
    Local {
        #[shutdown(timeout = "1s")]
        index: Scripted,
    },
    #[expect(dead_code, reason = "the variant that is not live")]
    Remote {
        #[shutdown(timeout = "1s")]
        connection: Scripted,
    },
}

#[derive(GracefulShutdown)]
#[shutdown(timeout = "20s")]
struct Good {
    #[shutdown(priority = 0)]
    token: CancellationToken,
    #[shutdown(priority = 10)]
    tasks: TaskGroup,
    #[shutdown(priority = 10, best_effort, timeout = "2s")]
    cache: Scripted,
    #[shutdown(priority = 20)]
    storage: Storage,
    #[shutdown(priority = 20)]
    backend: Backend,
    #[shutdown(priority = 30)]
    absent: Option<Storage>,
    #[shutdown(priority = 30)]
    plugins: Vec<Scripted>,
    #[shutdown(priority = 40, with = |name| name.clear())]
    name: String,
    #[shutdown(state)]
    state: ShutdownState,
}

fn quick() -> Scripted {
    Scripted::new(Act::Take(ms(10)))
}

async fn good() -> Good {
    let token = CancellationToken::new();
    let tasks = TaskGroup::new();
    let told = token.clone();
    tasks
        .spawn("told", async move { told.cancelled().await })
        .unwrap();
    tasks
        .spawn_with("stops", async |stop| {
            stop.cancelled().await;
        })
        .unwrap();
    Good {
        token,
        tasks,
        cache: quick(),
        storage: Storage {
            writer: quick(),
            disk: quick(),
        },
        backend: Backend::Local { index: quick() },
        absent: None,
        plugins: vec![quick(), quick()],
        name: "good".into(),
        state: ShutdownState::new(),
    }
}

fn paths(explored: &Explored) -> BTreeSet<&str> {
    explored.cases.iter().map(|(path, ..)| &**path).collect()
}

#[test]
fn a_good_server_passes_with_every_fault_at_every_live_step() {
    let explored = explore(good);
    let expected = [
        "backend.index",
        "cache",
        "name",
        "plugins",
        "storage.disk",
        "storage.writer",
        "tasks",
        "token",
    ];
    assert!(
        paths(&explored).into_iter().eq(expected),
        "{:?}",
        paths(&explored)
    );
    assert_eq!(explored.cases.len(), expected.len() * Fault::ALL.len());
}

#[test]
fn injected_panics_print_neither_a_message_nor_a_backtrace() {
    let test = "a_good_server_passes_with_every_fault_at_every_live_step";
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env("RUST_BACKTRACE", "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(text.contains("1 passed"), "{text}");
    for part in ["panicked at", "an injected panic", "backtrace"] {
        assert!(!text.contains(part), "{part}: {text}");
    }
}

#[test]
fn the_reports_show_the_fault_of_each_step() {
    let explored = explore(good);
    let of = |path: &str, fault: Fault| {
        let found = explored
            .cases
            .iter()
            .find(|case| case.0 == path && case.1 == fault);
        let report = &found.unwrap().2;
        report.step(path).unwrap().outcome().to_string()
    };
    assert_eq!(of("storage.disk", Fault::None), "done");
    assert_eq!(
        of("storage.disk", Fault::Error),
        "failed: an injected error"
    );
    assert_eq!(
        of("storage.disk", Fault::Panic),
        "panicked: an injected panic"
    );
    assert!(of("storage.disk", Fault::Hang).starts_with("timed out"));
    assert_eq!(of("storage.disk", Fault::Slow), "done");
    assert_eq!(of("storage.disk", Fault::DroppedHere), "done");
    let skipped = explored
        .cases
        .iter()
        .find(|case| case.0 == "storage.writer" && case.1 == Fault::Error);
    let disk = skipped
        .unwrap()
        .2
        .step("storage.disk")
        .unwrap()
        .outcome()
        .to_string();
    assert_eq!(disk, "skipped", "the writer is required");
}

#[test]
fn a_server_without_a_timeout_passes_within_the_default_one() {
    #[derive(GracefulShutdown)]
    struct Server {
        #[shutdown]
        one: Scripted,
        #[shutdown]
        two: Scripted,
        #[shutdown(state)]
        state: ShutdownState,
    }
    let explored = explore(async || Server {
        one: quick(),
        two: quick(),
        state: ShutdownState::new(),
    });
    assert_eq!(explored.cases.len(), 2 * Fault::ALL.len());
}

#[test]
fn a_step_that_works_on_the_blocking_pool_passes() {
    #[derive(GracefulShutdown)]
    #[shutdown(timeout = "10s")]
    struct Server {
        #[shutdown]
        file: StateFile<Vec<u32>>,
        #[shutdown(state)]
        state: ShutdownState,
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state.json");
    let explored = explore(async || Server {
        file: StateFile::open(&path, "numbers", 1).await.unwrap(),
        state: ShutdownState::new(),
    });
    assert_eq!(explored.cases.len(), Fault::ALL.len());
}

/// A server with the step under test between two correct steps.
#[derive(GracefulShutdown)]
#[shutdown(timeout = "20s")]
struct Server<C: Component> {
    #[shutdown(timeout = "2s")]
    before: Scripted,
    #[shutdown(timeout = "5s")]
    planted: C,
    #[shutdown(timeout = "2s")]
    after: Scripted,
    #[shutdown(state)]
    state: ShutdownState,
}

/// Runs `explore` on a server with the step `planted` under test, and returns the message with which it fails.
fn complaint<C: Component>(planted: impl Fn() -> C) -> String {
    let explored = catch_unwind(AssertUnwindSafe(|| {
        explore(async || Server {
            before: quick(),
            planted: planted(),
            after: quick(),
            state: ShutdownState::new(),
        })
    }));
    let payload: Box<dyn Any + Send> = explored.expect_err("the bug is not found");
    *payload.downcast::<String>().expect("a text")
}

#[track_caller]
fn assert_says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "no {part:?} in: {text}");
    }
}

#[test]
fn a_step_that_never_ends_is_found() {
    let text = complaint(|| Scripted::new(Act::Hang));
    let first = "when `before` goes well";
    assert_says(
        &text,
        &[
            first,
            "`planted` is not done, without a fault",
            "shutdown of Server",
        ],
    );
}

#[test]
fn a_step_that_always_fails_is_found() {
    let text = complaint(|| Scripted::new(Act::Fail("no")));
    assert_says(
        &text,
        &[
            "when `before` goes well",
            "`planted` is not done, without a fault",
        ],
    );
}

#[test]
fn a_step_that_always_panics_is_found() {
    let text = complaint(|| Scripted::new(Act::Panic("no")));
    assert_says(&text, &["`planted` is not done, without a fault"]);
}

#[test]
fn a_step_that_needs_more_than_half_of_its_time_is_found_when_it_begins_late() {
    let text = complaint(|| Scripted::new(Act::Take(secs(4))));
    assert_says(&text, &["when `planted` is slow", "the step is timed out"]);
}

#[test]
fn a_step_that_holds_the_executor_past_the_budget_is_found() {
    let trace = Trace::new();
    let text = complaint(|| Probe::new(&trace, "planted").block(secs(60)));
    assert_says(&text, &["it took 60", "of 20s"]);
}

/// A component whose cleanup ends its task, but whose `abort` does not.
struct Leaves(Option<JoinHandle<()>>);

impl Component for Leaves {
    async fn cleanup(&mut self, _: &Context) -> Result<(), BoxError> {
        if let Some(task) = self.0.take() {
            task.abort();
            // The aborted task returns an error, which is expected.
            let _ = task.await;
        }
        Ok(())
    }
}

#[test]
fn a_component_whose_abort_leaves_a_task_running_is_found() {
    let text = complaint(|| Leaves(Some(tokio::spawn(pending()))));
    assert_says(&text, &["when `planted` fails", "1 tasks are left running"]);
}

/// A component that drops its value when its cleanup is interrupted.
struct Forgets(Option<Scripted>);

impl Component for Forgets {
    async fn cleanup(&mut self, cx: &Context) -> Result<(), BoxError> {
        let mut inner = self.0.take().ok_or("it is gone already")?;
        inner.cleanup(cx).await
    }
}

#[test]
fn a_cleanup_that_cannot_be_resumed_is_found() {
    let text = complaint(|| Forgets(Some(quick())));
    assert_says(
        &text,
        &[
            "when `planted` runs when the shutdown's future is dropped",
            "the step is failed: it is gone already",
        ],
    );
}

#[test]
fn a_cleanup_that_cannot_be_repeated_is_found_although_it_ends_at_once() {
    let text = complaint(|| Forgets(Some(Scripted::new(Act::Succeed))));
    assert_says(&text, &["the step is failed: it is gone already"]);
}

/// A component whose cleanup succeeds, but whose `abort` panics.
struct Unabortable;

impl Component for Unabortable {
    async fn cleanup(&mut self, _: &Context) -> Result<(), BoxError> {
        Ok(())
    }

    fn abort(&mut self) {
        panic!("half of it is gone");
    }
}

#[test]
fn an_abort_that_panics_is_found() {
    let text = complaint(|| Unabortable);
    assert_says(
        &text,
        &[
            "when `planted` fails",
            "the abort of `planted` panicked: half of it is gone",
        ],
    );
}

/// A component that drops another owner instead of shutting it down.
struct Drops(Option<Box<Server<Scripted>>>);

impl Component for Drops {
    async fn cleanup(&mut self, _: &Context) -> Result<(), BoxError> {
        self.0 = None;
        Ok(())
    }
}

#[test]
fn an_owner_that_is_dropped_without_its_shutdown_is_found() {
    let text = complaint(|| {
        Drops(Some(Box::new(Server {
            before: quick(),
            planted: quick(),
            after: quick(),
            state: ShutdownState::new(),
        })))
    });
    assert_says(
        &text,
        &[
            "dropped without an awaited shutdown",
            "Server",
            "before",
            "planted",
            "after",
        ],
    );
}

#[test]
fn a_server_with_a_computed_budget_is_held_to_that() {
    #[derive(GracefulShutdown)]
    #[shutdown(timeout = self.patience, at_most = "60s")]
    struct Configured {
        patience: Duration,
        #[shutdown]
        pool: Probe,
        #[shutdown(state)]
        state: ShutdownState,
    }
    let trace = Trace::new();
    let build = |time| {
        let trace = trace.clone();
        move || Configured {
            patience: secs(10),
            pool: Probe::new(&trace, "pool").block(time),
            state: ShutdownState::new(),
        }
    };
    let (good, late) = (build(secs(1)), build(secs(30)));
    explore(async || good());
    let complaint = catch_unwind(AssertUnwindSafe(|| explore(async || late())));
    let text = complaint
        .expect_err("30 s are more than 10 s")
        .downcast::<String>()
        .unwrap();
    assert_says(&text, &["it took 30", "of 10s"]);
}
