//! Every step has a deadline, and no step uses up the time that other steps declared.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use lifecycle_runtime::{
    BoxError, Component, Context, GracefulShutdown, Outcome, Report, Runner, ShutdownState,
};
use lifecycle_tests::{Logs, Probe, Trace, ms, secs};
use tracing::Level;

fn is_cut(report: &Report, step: &str) -> bool {
    let step = report
        .step(step)
        .unwrap_or_else(|| panic!("no `{step}`: {report}"));
    matches!(step.outcome(), Outcome::TimedOut { .. })
}

fn took(report: &Report, step: &str) -> Duration {
    report
        .step(step)
        .unwrap_or_else(|| panic!("no `{step}`: {report}"))
        .elapsed()
}

/// Rounds a time to milliseconds, since a shrunk timeout need not be a whole number of them.
fn rounded(time: Duration) -> Duration {
    ms(u64::try_from((time + Duration::from_micros(500)).as_millis()).unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_step_is_cut_at_its_own_timeout() {
    #[derive(GracefulShutdown)]
    struct Server {
        #[shutdown(timeout = "2s")]
        hangs: Probe,
        #[shutdown]
        next: Probe,
        #[shutdown(state)]
        state: ShutdownState,
    }
    let trace = Trace::new();
    let mut server = Server {
        hangs: Probe::new(&trace, "hangs").hang(),
        next: Probe::new(&trace, "next"),
        state: ShutdownState::new(),
    };
    let report = server.shutdown().await;
    assert!(is_cut(&report, "hangs"), "{report}");
    assert_eq!(took(&report, "hangs"), secs(2));
    assert_eq!(report.step("hangs").unwrap().budget(), secs(2));
    assert_eq!(trace.when("next begins"), secs(2));
}

#[derive(GracefulShutdown)]
#[shutdown(timeout = "10s")]
struct Chain {
    #[shutdown(priority = 0)]
    drain: Probe,
    #[shutdown(priority = 1, timeout = "3s")]
    flush: Probe,
    #[shutdown(priority = 2, timeout = "2s")]
    pool: Probe,
    #[shutdown(state)]
    state: ShutdownState,
}

impl Chain {
    fn of(drain: Probe, flush: Probe, pool: Probe) -> Self {
        Self {
            drain,
            flush,
            pool,
            state: ShutdownState::new(),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_step_without_a_timeout_gets_the_time_that_the_others_leave_and_no_more() {
    let trace = Trace::new();
    let probe = |name| Probe::new(&trace, name);
    let mut server = Chain::of(
        probe("drain").hang(),
        probe("flush").sleep(ms(2_900)),
        probe("pool").sleep(ms(1_900)),
    );
    let report = server.shutdown().await;
    assert!(is_cut(&report, "drain"), "{report}");
    assert_eq!(took(&report, "drain"), secs(5), "10 s less 3 s less 2 s");
    assert!(
        report.step("flush").unwrap().outcome().is_done(),
        "{report}"
    );
    assert!(report.step("pool").unwrap().outcome().is_done(), "{report}");
    assert_eq!(report.elapsed(), ms(9_800));
}

#[tokio::test(start_paused = true)]
async fn a_step_that_ends_early_leaves_later_steps_no_more_than_their_own_timeout() {
    let trace = Trace::new();
    let probe = |name| Probe::new(&trace, name);
    let mut server = Chain::of(probe("drain"), probe("flush").hang(), probe("pool").hang());
    let report = server.shutdown().await;
    assert_eq!(took(&report, "flush"), secs(3), "{report}");
    assert_eq!(took(&report, "pool"), secs(2), "{report}");
}

#[tokio::test(start_paused = true)]
async fn a_step_without_a_timeout_counts_as_a_second_for_earlier_steps() {
    #[derive(GracefulShutdown)]
    #[shutdown(timeout = "10s")]
    struct Server {
        #[shutdown]
        one: Probe,
        #[shutdown]
        two: Probe,
        #[shutdown]
        three: Probe,
        #[shutdown(state)]
        state: ShutdownState,
    }
    let trace = Trace::new();
    let hangs = |name| Probe::new(&trace, name).hang();
    let mut server = Server {
        one: hangs("one"),
        two: hangs("two"),
        three: hangs("three"),
        state: ShutdownState::new(),
    };
    let report = server.shutdown().await;
    assert_eq!(
        [
            took(&report, "one"),
            took(&report, "two"),
            took(&report, "three")
        ],
        [secs(8), secs(1), secs(1)]
    );
    assert_eq!(report.elapsed(), secs(10));
}

#[tokio::test(start_paused = true)]
async fn the_latest_finish_counts_the_longest_path_after_a_step_not_the_sum() {
    #[derive(GracefulShutdown)]
    #[shutdown(timeout = "10s")]
    struct Server {
        #[shutdown(priority = 0)]
        first: Probe,
        #[shutdown(after = first, timeout = "3s")]
        long: Probe,
        #[shutdown(after = first, timeout = "1s")]
        short: Probe,
        // No step waits for `alone`, so it may use all the time of the plan.
        #[shutdown(priority = 0)]
        alone: Probe,
        #[shutdown(state)]
        state: ShutdownState,
    }
    let trace = Trace::new();
    let hangs = |name| Probe::new(&trace, name).hang();
    let mut server = Server {
        first: hangs("first"),
        long: hangs("long"),
        short: hangs("short"),
        alone: hangs("alone"),
        state: ShutdownState::new(),
    };
    let report = server.shutdown().await;
    assert_eq!(took(&report, "first"), secs(7), "{report}");
    assert_eq!(took(&report, "long"), secs(3), "{report}");
    assert_eq!(took(&report, "short"), secs(1), "{report}");
    assert_eq!(took(&report, "alone"), secs(10), "{report}");
}

#[derive(GracefulShutdown)]
#[shutdown(part)]
struct Storage {
    #[shutdown(timeout = "3s")]
    writer: Probe,
    #[shutdown(timeout = "1s")]
    disk: Probe,
}

#[tokio::test(start_paused = true)]
async fn a_nested_plan_counts_as_its_budget_for_earlier_steps() {
    #[derive(GracefulShutdown)]
    #[shutdown(timeout = "10s")]
    struct Server {
        #[shutdown]
        drain: Probe,
        #[shutdown]
        storage: Storage,
        #[shutdown(state)]
        state: ShutdownState,
    }
    let trace = Trace::new();
    let hangs = |name| Probe::new(&trace, name).hang();
    let storage = Storage {
        writer: hangs("writer"),
        disk: hangs("disk"),
    };
    let mut server = Server {
        drain: hangs("drain"),
        storage,
        state: ShutdownState::new(),
    };
    let report = server.shutdown().await;
    assert_eq!(took(&report, "drain"), secs(6), "{report}");
    assert_eq!(took(&report, "storage.writer"), secs(3), "{report}");
    assert_eq!(took(&report, "storage.disk"), secs(1), "{report}");
}

#[tokio::test(start_paused = true)]
async fn a_nested_plan_shares_its_parents_remaining_time_in_proportion() {
    #[derive(GracefulShutdown)]
    #[shutdown(timeout = "10s")]
    struct Server {
        #[shutdown(timeout = "4s")]
        storage: Storage,
        #[shutdown(state)]
        state: ShutdownState,
    }
    let trace = Trace::new();
    let hangs = |name| Probe::new(&trace, name).hang();
    let storage = Storage {
        writer: hangs("writer"),
        disk: hangs("disk"),
    };
    let mut server = Server {
        storage,
        state: ShutdownState::new(),
    };
    let report = server.shutdown().within(secs(2)).await;
    assert_eq!(
        rounded(took(&report, "storage.writer")),
        ms(1_500),
        "{report}"
    );
    assert_eq!(rounded(took(&report, "storage.disk")), ms(500), "{report}");
    assert_eq!(rounded(report.elapsed()), secs(2), "{report}");
}

#[tokio::test(start_paused = true)]
async fn within_shrinks_all_budgets_in_proportion() {
    #[derive(GracefulShutdown)]
    #[shutdown(timeout = "10s")]
    struct Server {
        #[shutdown(timeout = "8s")]
        long: Probe,
        #[shutdown(timeout = "2s")]
        short: Probe,
        #[shutdown(state)]
        state: ShutdownState,
    }
    for (within, long, short) in [(secs(5), secs(4), secs(1)), (secs(1), ms(800), ms(200))] {
        let trace = Trace::new();
        let hangs = |name| Probe::new(&trace, name).hang();
        let mut server = Server {
            long: hangs("long"),
            short: hangs("short"),
            state: ShutdownState::new(),
        };
        let report = server.shutdown().within(within).await;
        assert_eq!(rounded(took(&report, "long")), long, "{report}");
        assert_eq!(rounded(took(&report, "short")), short, "{report}");
        assert_eq!(rounded(report.elapsed()), within, "{report}");

        // A step gets no more than its share, even if another step needs less than its own.
        let mut server = Server {
            long: Probe::new(&trace, "long"),
            short: hangs("short"),
            state: ShutdownState::new(),
        };
        let report = server.shutdown().within(within).await;
        assert_eq!(rounded(took(&report, "short")), short, "{report}");
    }
}

#[tokio::test(start_paused = true)]
async fn spare_time_goes_to_the_steps_without_a_timeout() {
    let trace = Trace::new();
    let hangs = |name| Probe::new(&trace, name).hang();
    let mut server = Chain::of(hangs("drain"), hangs("flush"), hangs("pool"));
    let report = server.shutdown().within(secs(60)).await;
    assert_eq!(took(&report, "drain"), secs(55), "{report}");
    assert_eq!(took(&report, "flush"), secs(3), "{report}");
}

#[tokio::test(start_paused = true)]
async fn every_step_is_polled_at_least_once_however_late_it_is() {
    let trace = Trace::new();
    let probe = |name| Probe::new(&trace, name);
    // The engine cannot interrupt a cleanup that blocks the executor, so `drain` takes more time than it has.
    let mut server = Chain::of(
        probe("drain").block(secs(60)),
        probe("flush").hang(),
        probe("pool"),
    );
    let report = server.shutdown().await;
    assert!(is_cut(&report, "flush"), "{report}");
    assert!(report.step("pool").unwrap().outcome().is_done(), "{report}");
    assert_eq!(
        trace.all(),
        [
            "drain begins",
            "drain ends",
            "flush begins",
            "flush is cut",
            "flush aborts",
            "pool begins",
            "pool ends"
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_within_no_time_still_polls_every_step_once() {
    let trace = Trace::new();
    let probe = |name| Probe::new(&trace, name);
    let mut server = Chain::of(probe("drain"), probe("flush").hang(), probe("pool"));
    let report = server.shutdown().within(Duration::ZERO).await;
    assert!(
        report.step("drain").unwrap().outcome().is_done(),
        "{report}"
    );
    assert!(is_cut(&report, "flush"), "{report}");
    assert!(report.step("pool").unwrap().outcome().is_done(), "{report}");
    assert_eq!(report.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn how_far_a_step_went_over_its_budget_shows_even_when_it_is_done() {
    let trace = Trace::new();
    let probe = |name| Probe::new(&trace, name);
    let mut server = Chain::of(probe("drain"), probe("flush").block(secs(4)), probe("pool"));
    let (logs, guard) = Logs::capture();
    let report = server.shutdown().await;
    drop(guard);
    let flush = report.step("flush").unwrap();
    assert!(flush.outcome().is_done(), "{report}");
    assert_eq!((flush.elapsed(), flush.budget()), (secs(4), secs(3)));
    assert!(
        report.to_string().contains("1.00 s over its budget"),
        "{report}"
    );
    let ends = logs.named("step_end");
    let over: Vec<_> = ends
        .iter()
        .map(|event| (event.field("step"), event.number("over_ms")))
        .collect();
    assert_eq!(over, [("drain", 0), ("flush", 1_000), ("pool", 0)]);
}

#[tokio::test(start_paused = true)]
async fn a_component_is_shown_a_reserve_of_a_tenth_and_at_most_a_second() {
    #[derive(GracefulShutdown)]
    #[shutdown(timeout = "60s")]
    struct Server {
        #[shutdown(timeout = "5s")]
        short: Probe,
        #[shutdown(timeout = "40s")]
        long: Probe,
        #[shutdown(state)]
        state: ShutdownState,
    }
    let trace = Trace::new();
    let mut server = Server {
        short: Probe::new(&trace, "short").looks(),
        long: Probe::new(&trace, "long").looks(),
        state: ShutdownState::new(),
    };
    server.shutdown().await;
    assert_eq!(
        trace.count("short: 4500 of 5000 ms"),
        1,
        "{:?}",
        trace.all()
    );
    assert_eq!(
        trace.count("long: 39000 of 40000 ms"),
        1,
        "{:?}",
        trace.all()
    );
}

#[tokio::test(start_paused = true)]
async fn a_step_that_ends_its_stragglers_in_the_reserve_is_done_not_timed_out() {
    #[derive(GracefulShutdown)]
    struct Server {
        #[shutdown(timeout = "10s")]
        group: Probe,
        #[shutdown(state)]
        state: ShutdownState,
    }
    let trace = Trace::new();
    let mut server = Server {
        group: Probe::new(&trace, "group").until_soft(),
        state: ShutdownState::new(),
    };
    let report = server.shutdown().await;
    assert!(report.is_clean(), "{report}");
    assert_eq!(trace.when("group ends its stragglers"), secs(9));
    assert_eq!(
        trace.all(),
        ["group begins", "group ends its stragglers", "group ends"]
    );
    assert_eq!(report.elapsed(), ms(9_500));
}

#[derive(GracefulShutdown)]
#[shutdown(timeout = "20s")]
struct Configured {
    patience: Duration,
    #[shutdown(priority = 0, timeout = self.patience)]
    free: Probe,
    #[shutdown(priority = 1, timeout = self.patience, at_most = "6s")]
    held: Probe,
    #[shutdown(priority = 2, timeout = "2s")]
    last: Probe,
    #[shutdown(state)]
    state: ShutdownState,
}

fn configured(trace: &Trace, patience: Duration) -> Configured {
    let hangs = |name| Probe::new(trace, name).hang();
    Configured {
        patience,
        free: hangs("free"),
        held: hangs("held"),
        last: hangs("last"),
        state: ShutdownState::new(),
    }
}

#[tokio::test(start_paused = true)]
async fn a_timeout_may_be_computed_and_is_held_to_its_at_most() {
    let trace = Trace::new();
    let report = configured(&trace, secs(4)).shutdown().await;
    assert_eq!(
        [took(&report, "free"), took(&report, "held")],
        [secs(4), secs(4)],
        "{report}"
    );

    let report = configured(&trace, secs(8)).shutdown().await;
    assert_eq!(
        [took(&report, "free"), took(&report, "held")],
        [secs(8), secs(6)],
        "{report}"
    );
    assert_eq!(took(&report, "last"), secs(2), "{report}");
}

#[tokio::test(start_paused = true)]
async fn a_computed_timeout_of_zero_polls_its_step_once() {
    let trace = Trace::new();
    let report = configured(&trace, Duration::ZERO).shutdown().await;
    assert!(
        is_cut(&report, "free") && is_cut(&report, "held"),
        "{report}"
    );
    assert_eq!(took(&report, "last"), secs(2), "{report}");
    assert_eq!(trace.count("free begins") + trace.count("held begins"), 2);
}

#[tokio::test(start_paused = true)]
async fn absurd_computed_timeouts_neither_panic_nor_starve_the_rest() {
    for absurd in [
        Duration::MAX,
        Duration::MAX - Duration::from_nanos(1),
        secs(u64::MAX / 2),
        secs(60 * 60 * 24),
    ] {
        let trace = Trace::new();
        let (logs, guard) = Logs::capture();
        let report = configured(&trace, absurd).shutdown().await;
        drop(guard);
        assert_eq!(rounded(report.elapsed()), secs(20), "{report}");
        for step in ["held", "last"] {
            assert!(
                took(&report, step) >= secs(1),
                "{absurd:?} for `free` leaves `{step}` too little: {report}"
            );
        }
        let warned: Vec<_> = logs
            .all()
            .into_iter()
            .filter(|event| event.fields.contains_key("needed_ms"))
            .collect();
        let [event] = warned.as_slice() else {
            panic!("{logs:#?}")
        };
        assert_eq!(event.level, Level::WARN);
        assert_eq!(event.number("given_ms"), 20_000);
        assert!(event.number("needed_ms") > 20_000, "{event:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_total_may_be_computed_however_absurd_it_is() {
    #[derive(GracefulShutdown)]
    #[shutdown(timeout = self.total)]
    struct Server {
        total: Duration,
        #[shutdown]
        drain: Probe,
        #[shutdown(timeout = self.total)]
        pool: Probe,
        #[shutdown(state)]
        state: ShutdownState,
    }
    let server = |trace: &Trace, total| Server {
        total,
        drain: Probe::new(trace, "drain").sleep(secs(1)),
        pool: Probe::new(trace, "pool").sleep(secs(1)),
        state: ShutdownState::new(),
    };
    let trace = Trace::new();
    let report = server(&trace, Duration::ZERO).shutdown().await;
    assert!(
        is_cut(&report, "drain") && is_cut(&report, "pool"),
        "{report}"
    );
    assert_eq!(report.elapsed(), Duration::ZERO);

    let report = server(&trace, Duration::MAX).shutdown().await;
    assert!(report.is_clean(), "{report}");
    let report = server(&trace, secs(30))
        .shutdown()
        .within(Duration::MAX)
        .await;
    assert!(report.is_clean(), "{report}");
    let report =
        lifecycle_runtime::run(server(&trace, Duration::MAX), async |_: &mut Server, _| {}).await;
    assert!(report.is_clean(), "{report}");
}

#[tokio::test(start_paused = true)]
async fn a_step_whose_timeout_expression_panics_gets_the_time_that_the_others_leave() {
    #[derive(GracefulShutdown)]
    #[shutdown(timeout = "10s")]
    struct Server {
        #[shutdown(timeout = broken(&self.drain))]
        drain: Probe,
        #[shutdown(timeout = "3s")]
        pool: Probe,
        #[shutdown(state)]
        state: ShutdownState,
    }
    fn broken(_: &Probe) -> Duration {
        panic!("no such setting")
    }
    let trace = Trace::new();
    let hangs = |name| Probe::new(&trace, name).hang();
    let mut server = Server {
        drain: hangs("drain"),
        pool: hangs("pool"),
        state: ShutdownState::new(),
    };
    let (logs, guard) = Logs::capture();
    let report = server.shutdown().await;
    drop(guard);
    assert_eq!(
        [took(&report, "drain"), took(&report, "pool")],
        [secs(7), secs(3)],
        "{report}"
    );
    assert!(
        logs.all()
            .iter()
            .any(|event| event.field("error") == "no such setting"),
        "{logs:#?}"
    );
}

#[tokio::test(start_paused = true)]
async fn the_plan_of_a_value_shows_its_computed_timeouts() {
    let trace = Trace::new();
    let mut server = configured(&trace, secs(9));
    let plan = server.plan();
    assert_eq!(plan.budget(), Some(secs(20)));
    assert_eq!(plan.step_budget("free"), Some(secs(9)));
    assert_eq!(plan.step_budget("held"), Some(secs(6)));
    assert_eq!(plan.step_budget("last"), Some(secs(2)));
    let steps = plan.steps().iter().map(|step| (step.name(), step.budget()));
    assert_eq!(
        steps.collect::<Vec<_>>(),
        [
            ("free", Some(secs(9))),
            ("held", Some(secs(6))),
            ("last", Some(secs(2))),
        ]
    );
    assert_eq!(plan.steps()[2].after().collect::<Vec<_>>(), [1]);
    server.state.disarm();
}

/// Polls a future on this thread, without a runtime.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = std::sync::Arc::new(Unpark(std::thread::current())).into();
    let mut cx = std::task::Context::from_waker(&waker);
    let mut future = std::pin::pin!(future);
    loop {
        if let std::task::Poll::Ready(output) = future.as_mut().poll(&mut cx) {
            return output;
        }
        std::thread::park();
    }
}

fn hangs_for_a_moment(trace: &Trace) -> Configured {
    let hangs = |name| Probe::new(trace, name).hang();
    let (free, held, last) = (hangs("free"), hangs("held"), Probe::new(trace, "last"));
    Configured {
        patience: ms(20),
        free,
        held,
        last,
        state: ShutdownState::new(),
    }
}

#[test]
fn outside_tokio_a_deadline_is_kept_too() {
    let trace = Trace::new();
    let report = block_on(async { hangs_for_a_moment(&trace).shutdown().await });
    assert!(
        is_cut(&report, "free") && is_cut(&report, "held"),
        "{report}"
    );
    assert_eq!(trace.count("last ends"), 1);
}

#[test]
fn outside_tokio_a_runner_runs_too() {
    let trace = Trace::new();
    let report = block_on(Runner::new(hangs_for_a_moment(&trace)).run(async |_, _| ()));
    assert!(report.step("main").unwrap().outcome().is_done(), "{report}");
    assert!(is_cut(&report, "held"), "{report}");
    assert_eq!(trace.count("last ends"), 1);
}

#[test]
fn on_a_runtime_that_has_no_time_a_deadline_is_kept_too() {
    let trace = Trace::new();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let report = runtime.block_on(async { hangs_for_a_moment(&trace).shutdown().await });
    assert!(
        is_cut(&report, "free") && is_cut(&report, "held"),
        "{report}"
    );
    assert_eq!(trace.count("last ends"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_steps_time_begins_with_its_first_poll_also_when_another_blocked_the_executor() {
    /// A component that waits, blocks the executor for two seconds, and waits again.
    struct Slow;
    impl Component for Slow {
        async fn cleanup(&mut self, _: &Context) -> Result<(), BoxError> {
            tokio::time::sleep(secs(1)).await;
            let mut advancing = pin!(tokio::time::advance(secs(2)));
            poll_fn(|cx| {
                // A single poll is enough: `advance` moves the clock in its first poll, and then only yields.
                let _ = advancing.as_mut().poll(cx);
                Poll::Ready(())
            })
            .await;
            tokio::time::sleep(secs(1)).await;
            Ok(())
        }
    }
    #[derive(GracefulShutdown)]
    struct Server {
        #[shutdown(priority = 0)]
        first: Probe,
        #[shutdown(priority = 0)]
        slow: Slow,
        #[shutdown(after = first)]
        next: Probe,
        #[shutdown(state)]
        state: ShutdownState,
    }
    let trace = Trace::new();
    let mut server = Server {
        first: Probe::new(&trace, "first").sleep(secs(1)),
        slow: Slow,
        next: Probe::new(&trace, "next"),
        state: ShutdownState::new(),
    };
    let report = server.shutdown().await;
    assert_eq!(report.step("next").unwrap().started(), secs(3), "{report}");
}
