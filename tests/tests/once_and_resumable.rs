//! A shutdown happens once, and an interrupted one is resumed by the next call.

use std::time::Duration;

use lifecycle_runtime::{BoxError, Component, Context, GracefulShutdown, Reason, ShutdownState};
use lifecycle_tests::{Hold, Probe, Storage, Trace, ms, secs};
use tokio::time::timeout;
use tokio_test::task::spawn;
use tokio_test::{assert_pending, assert_ready};

#[derive(GracefulShutdown)]
#[shutdown(timeout = "10s")]
struct Pair {
    #[shutdown]
    first: Probe,
    #[shutdown(timeout = "2s")]
    second: Probe,
    #[shutdown(state)]
    state: ShutdownState,
}

fn pair(first: Probe, second: Probe) -> Pair {
    Pair {
        first,
        second,
        state: ShutdownState::new(),
    }
}

#[tokio::test(start_paused = true)]
async fn a_second_call_returns_the_same_report_and_runs_nothing() {
    let trace = Trace::new();
    let mut server = pair(
        Probe::new(&trace, "first").error("no"),
        Probe::new(&trace, "second").sleep(secs(1)),
    );
    let one = server.shutdown().await;
    trace.take();
    tokio::time::advance(secs(5)).await;
    let two = server
        .shutdown()
        .reason(Reason::MainEnded)
        .within(secs(60))
        .await;
    assert_eq!(trace.all(), [""; 0]);
    assert_eq!(one.to_string(), two.to_string());
    assert_eq!(one.elapsed(), two.elapsed());
    assert!(std::ptr::eq(one.steps(), two.steps()), "it is shared");
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_does_nothing_until_it_is_polled() {
    let trace = Trace::new();
    let mut server = pair(Probe::new(&trace, "first"), Probe::new(&trace, "second"));
    drop(server.shutdown().reason(Reason::MainEnded).within(ms(1)));
    assert_eq!(trace.all(), [""; 0]);
    let report = server.shutdown().await;
    assert!(
        matches!(report.reason(), Reason::Requested),
        "the dropped one said nothing"
    );
    assert_eq!(trace.count("second ends"), 1);
}

#[tokio::test(start_paused = true)]
async fn the_first_reason_wins() {
    let trace = Trace::new();
    let (first, hold) = Probe::held(&trace, "first");
    let mut server = pair(first, Probe::new(&trace, "second"));
    assert_pending!(spawn(server.shutdown().reason(Reason::MainEnded)).poll());
    hold.release();
    let report = server.shutdown().reason(Reason::Requested).await;
    assert!(matches!(report.reason(), Reason::MainEnded), "{report}");
}

#[tokio::test(start_paused = true)]
async fn the_next_call_resumes_the_steps_that_have_not_ended() {
    let trace = Trace::new();
    let (second, hold) = Probe::held(&trace, "second");
    let mut server = pair(Probe::new(&trace, "first"), second);
    assert_pending!(spawn(server.shutdown()).poll());
    assert_eq!(
        trace.take(),
        [
            "first begins",
            "first ends",
            "second begins",
            "second is cut"
        ]
    );

    let mut again = spawn(server.shutdown());
    assert_pending!(again.poll());
    assert_eq!(trace.take(), ["second begins"]);
    hold.release();
    let report = assert_ready!(again.poll());
    assert!(report.is_clean(), "{report}");
    assert_eq!(report.steps().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_resumed_shutdown_stays_on_its_first_clock() {
    let trace = Trace::new();
    let mut server = pair(
        Probe::new(&trace, "first"),
        Probe::new(&trace, "second").hang(),
    );
    assert!(timeout(ms(1_500), server.shutdown()).await.is_err());
    // The deadlines of an interrupted shutdown do not move, although nothing polls it meanwhile.
    let report = server.shutdown().within(secs(60)).await;
    assert_eq!(report.elapsed(), secs(2), "{report}");
    assert_eq!(
        report.step("second").unwrap().elapsed(),
        secs(2),
        "{report}"
    );

    let mut server = pair(
        Probe::new(&trace, "first").hang(),
        Probe::new(&trace, "second").hang(),
    );
    assert!(timeout(secs(1), server.shutdown()).await.is_err());
    tokio::time::advance(secs(30)).await;
    trace.take();
    let report = server.shutdown().await;
    assert_eq!(report.elapsed(), secs(31), "{report}");
    assert_eq!(
        trace.count("second begins"),
        1,
        "a late step is still polled once"
    );
}

#[derive(GracefulShutdown)]
struct Nested {
    #[shutdown]
    storage: Storage,
    #[shutdown]
    list: Vec<Probe>,
    #[shutdown(state)]
    state: ShutdownState,
}

#[tokio::test(start_paused = true)]
async fn nested_plans_and_elements_are_resumed_one_by_one() {
    let trace = Trace::new();
    let probe = |name| Probe::new(&trace, name);
    let (disk, hold_disk) = Probe::held(&trace, "disk");
    let (b, hold_b) = Probe::held(&trace, "b");
    let storage = Storage {
        writer: probe("writer"),
        disk,
    };
    let mut server = Nested {
        storage,
        list: vec![probe("a"), b, probe("c")],
        state: ShutdownState::new(),
    };

    assert_pending!(spawn(server.shutdown()).poll());
    assert_eq!(
        trace.take(),
        ["writer begins", "writer ends", "disk begins", "disk is cut"]
    );
    hold_disk.release();
    assert_pending!(spawn(server.shutdown()).poll());
    let mut seen = trace.take();
    assert_eq!(
        seen.drain(..2).collect::<Vec<_>>(),
        ["disk begins", "disk ends"],
        "`writer` had ended"
    );
    seen.sort();
    assert_eq!(
        seen,
        [
            "a begins", "a ends", "b begins", "b is cut", "c begins", "c ends"
        ]
    );

    hold_b.release();
    let report = assert_ready!(spawn(server.shutdown()).poll());
    let mut seen = trace.take();
    seen.sort();
    assert_eq!(
        seen,
        [
            "a begins", "a ends", "b begins", "b ends", "c begins", "c ends"
        ],
        "elements of a list may have been moved"
    );
    assert!(report.is_clean(), "{report}");
    for path in [
        "storage.writer",
        "storage.disk",
        "list[0]",
        "list[1]",
        "list[2]",
    ] {
        assert!(
            report
                .step(path)
                .is_some_and(|step| step.outcome().is_done()),
            "{path}: {report}"
        );
    }
}

/// A hand-written component that cleans several parts and lists in one step.
struct Several {
    left: Storage,
    right: Storage,
    some: Vec<Probe>,
    more: Vec<Probe>,
}

impl Component for Several {
    async fn cleanup(&mut self, cx: &Context) -> Result<(), BoxError> {
        self.left.cleanup(cx).await?;
        self.right.cleanup(cx).await?;
        cx.each(["a"], &mut self.some).await?;
        cx.each(["b", "c"], &mut self.more).await
    }
}

#[derive(GracefulShutdown)]
struct ByHand {
    #[shutdown]
    several: Several,
    #[shutdown(state)]
    state: ShutdownState,
}

fn by_hand(trace: &Trace) -> (ByHand, [Hold; 2]) {
    let probe = |name| Probe::new(trace, name);
    let (disk, hold_disk) = Probe::held(trace, "right disk");
    let (c, hold_c) = Probe::held(trace, "c");
    let several = Several {
        left: Storage {
            writer: probe("left writer"),
            disk: probe("left disk"),
        },
        right: Storage {
            writer: probe("right writer"),
            disk,
        },
        some: vec![probe("a")],
        more: vec![probe("b"), c],
    };
    (
        ByHand {
            several,
            state: ShutdownState::new(),
        },
        [hold_disk, hold_c],
    )
}

#[tokio::test(start_paused = true)]
async fn a_component_may_clean_several_plans_and_lists_and_none_is_left_out() {
    let trace = Trace::new();
    let (mut server, holds) = by_hand(&trace);
    for hold in holds {
        hold.release();
    }
    let report = server.shutdown().await;
    assert!(report.is_clean(), "{report}");
    for name in [
        "left writer",
        "left disk",
        "right writer",
        "right disk",
        "a",
        "b",
        "c",
    ] {
        assert_eq!(trace.count(&format!("{name} ends")), 1, "{name}: {report}");
    }
    assert_eq!(report.step("several").unwrap().steps().len(), 7, "{report}");
}

#[tokio::test(start_paused = true)]
async fn the_plans_and_lists_of_a_hand_written_component_are_all_cleaned_again() {
    let trace = Trace::new();
    let (mut server, [hold_disk, hold_c]) = by_hand(&trace);
    assert_pending!(spawn(server.shutdown()).poll());
    trace.take();
    hold_disk.release();
    assert_pending!(spawn(server.shutdown()).poll());
    let mut seen = trace.take();
    seen.sort();
    let expected = [
        "a begins",
        "a ends",
        "b begins",
        "b ends",
        "c begins",
        "c is cut",
        "left disk begins",
        "left disk ends",
        "left writer begins",
        "left writer ends",
        "right disk begins",
        "right disk ends",
        "right writer begins",
        "right writer ends",
    ];
    assert_eq!(seen, expected);
    // The next call of `shutdown` runs the cleanup of the hand-written component once more.
    hold_disk.release();
    hold_c.release();
    let report = assert_ready!(spawn(server.shutdown()).poll());
    assert!(report.is_clean(), "{report}");
    assert_eq!(trace.count("c ends"), 1);
    assert_eq!(report.step("several").unwrap().steps().len(), 7, "{report}");
}

#[tokio::test(start_paused = true)]
async fn elements_without_a_name_are_all_cleaned() {
    struct Unnamed(Vec<Probe>);
    impl Component for Unnamed {
        async fn cleanup(&mut self, cx: &Context) -> Result<(), BoxError> {
            cx.each(["first"], &mut self.0).await
        }
    }
    #[derive(GracefulShutdown)]
    struct Server {
        #[shutdown]
        list: Unnamed,
        #[shutdown(state)]
        state: ShutdownState,
    }
    let trace = Trace::new();
    let list = Unnamed(vec![Probe::new(&trace, "a"), Probe::new(&trace, "b")]);
    let report = Server {
        list,
        state: ShutdownState::new(),
    }
    .shutdown()
    .await;
    assert!(report.is_clean(), "{report}");
    assert_eq!((trace.count("a ends"), trace.count("b ends")), (1, 1));
    assert!(
        report.step("list[first]").is_some() && report.step("list[1]").is_some(),
        "{report}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_component_may_drop_the_elements_that_have_ended() {
    struct Shrinking(Vec<(&'static str, Probe)>, bool);
    impl Component for Shrinking {
        async fn cleanup(&mut self, cx: &Context) -> Result<(), BoxError> {
            if std::mem::replace(&mut self.1, true) {
                self.0.remove(0);
            }
            let names: Vec<_> = self.0.iter().map(|(name, _)| *name).collect();
            cx.each(names, self.0.iter_mut().map(|(_, probe)| probe))
                .await
        }
    }
    #[derive(GracefulShutdown)]
    struct Server {
        #[shutdown]
        list: Shrinking,
        #[shutdown(state)]
        state: ShutdownState,
    }
    let trace = Trace::new();
    let (b, hold) = Probe::held(&trace, "b");
    let list = Shrinking(vec![("a", Probe::new(&trace, "a")), ("b", b)], false);
    let mut server = Server {
        list,
        state: ShutdownState::new(),
    };
    assert_pending!(spawn(server.shutdown()).poll());
    trace.take();
    hold.release();
    let report = assert_ready!(spawn(server.shutdown()).poll());
    assert_eq!(trace.take(), ["b begins", "b ends"]);
    assert!(report.is_clean(), "{report}");
    assert_eq!(report.step("list").unwrap().steps().len(), 2, "{report}");
}

#[derive(GracefulShutdown)]
struct OuterOwner {
    #[shutdown]
    inner: Pair,
    #[shutdown]
    last: Probe,
    #[shutdown(state)]
    state: ShutdownState,
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_was_shut_down_is_not_cleaned_again_by_its_outer_owner() {
    let trace = Trace::new();
    let probe = |name| Probe::new(&trace, name);
    let inner = pair(probe("first"), probe("second"));
    let mut server = OuterOwner {
        inner,
        last: probe("last"),
        state: ShutdownState::new(),
    };
    server.inner.shutdown().await;
    trace.take();
    let report = server.shutdown().await;
    assert_eq!(trace.take(), ["last begins", "last ends"]);
    assert!(report.is_clean(), "{report}");
    assert!(
        report
            .step("inner.second")
            .is_some_and(|step| step.outcome().is_done()),
        "{report}"
    );
}

#[tokio::test(start_paused = true)]
async fn an_interrupted_owner_is_resumed_by_its_outer_owner() {
    let trace = Trace::new();
    let probe = |name| Probe::new(&trace, name);
    let (second, hold) = Probe::held(&trace, "second");
    let mut server = OuterOwner {
        inner: pair(probe("first"), second),
        last: probe("last"),
        state: ShutdownState::new(),
    };
    assert_pending!(spawn(server.inner.shutdown()).poll());
    trace.take();
    hold.release();
    let report = server.shutdown().await;
    assert_eq!(
        trace.take(),
        ["second begins", "second ends", "last begins", "last ends"]
    );
    assert!(report.is_clean(), "{report}");
}

#[tokio::test(start_paused = true)]
async fn a_blocking_call_that_still_runs_is_awaited_and_not_started_again() {
    struct Disk {
        trace: Trace,
        held: std::sync::Mutex<std::sync::mpsc::Receiver<()>>,
    }
    impl Disk {
        fn sync(&self) {
            self.trace.add("the call begins");
            // The call blocks its thread of the pool until the test lets it end.
            let _ = self.held.lock().unwrap().recv();
            self.trace.add("the call ends");
        }
    }
    #[derive(GracefulShutdown)]
    struct Server {
        #[shutdown(blocking, with = Disk::sync)]
        shared: std::sync::Arc<Disk>,
        #[shutdown(blocking, with = |disk| disk.sync())]
        owned: Option<Disk>,
        #[shutdown(state)]
        state: ShutdownState,
    }
    let trace = Trace::new();
    let (release, held) = std::sync::mpsc::channel();
    let (release_too, held_too) = std::sync::mpsc::channel();
    let disk = |held: std::sync::mpsc::Receiver<()>| Disk {
        trace: trace.clone(),
        held: held.into(),
    };
    let mut server = Server {
        shared: disk(held).into(),
        owned: Some(disk(held_too)),
        state: ShutdownState::new(),
    };
    for _ in 0..3 {
        assert_pending!(spawn(server.shutdown()).poll());
    }
    release.send(()).unwrap();
    let mut second = spawn(server.shutdown());
    while second.poll().is_pending() && trace.count("the call begins") < 2 {
        tokio::task::yield_now().await;
    }
    drop(second);
    assert_pending!(spawn(server.shutdown()).poll());
    release_too.send(()).unwrap();
    let report = server.shutdown().await;
    assert!(report.is_clean(), "{report}");
    assert_eq!(
        trace.all(),
        [
            "the call begins",
            "the call ends",
            "the call begins",
            "the call ends"
        ]
    );
    assert!(server.owned.is_some(), "it was given back");
}

#[tokio::test(start_paused = true)]
async fn a_disarmed_owner_has_nothing_to_shut_down() {
    let trace = Trace::new();
    let mut server = pair(Probe::new(&trace, "first"), Probe::new(&trace, "second"));
    server.state.disarm();
    let report = server.shutdown().await;
    assert!(report.is_clean());
    assert_eq!(report.steps().len(), 0);
    drop(server);
    assert_eq!(trace.all(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_plan_without_steps_ends_at_once() {
    #[derive(GracefulShutdown)]
    struct Empty {
        #[shutdown(state)]
        state: ShutdownState,
    }
    let mut server = Empty {
        state: ShutdownState::new(),
    };
    let report = server.shutdown().await;
    assert!(report.is_clean());
    assert_eq!(report.elapsed(), Duration::ZERO);
    assert_eq!(report.exit_code(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_debug_output_of_a_state_and_a_shutdown_shows_their_progress() {
    #[derive(GracefulShutdown)]
    struct Server {
        #[shutdown]
        step: Probe,
        #[shutdown(state)]
        state: ShutdownState,
    }
    let trace = Trace::new();
    let (step, hold) = Probe::held(&trace, "step");
    let mut server = Server {
        step,
        state: ShutdownState::new(),
    };
    let state = |server: &Server| format!("{:?}", server.state);
    assert_eq!(state(&server), "ShutdownState(armed)");
    let shutdown = server.shutdown().within(Duration::from_secs(1));
    assert_eq!(
        format!("{shutdown:?}"),
        "Shutdown { reason: Requested, within: Some(1s), .. }"
    );
    assert_pending!(spawn(shutdown).poll());
    assert_eq!(state(&server), "ShutdownState(running)");
    hold.release();
    server.shutdown().await;
    assert_eq!(state(&server), "ShutdownState(ended)");
    server.state.disarm();
    assert_eq!(state(&server), "ShutdownState(disarmed)");
}
