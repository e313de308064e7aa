//! A failing step never stops the plan, and never lets a panic out of it.

use std::sync::Arc;

use lifecycle_runtime::{
    BoxError, Component, Context, GracefulShutdown, Outcome, Report, ShutdownState,
};
use lifecycle_tests::{Logs, Probe, Trace, secs};
use tracing::Level;

#[derive(GracefulShutdown)]
struct Trio {
    #[shutdown(timeout = "2s")]
    first: Probe,
    #[shutdown(timeout = "2s")]
    second: Probe,
    #[shutdown(timeout = "2s")]
    third: Probe,
    #[shutdown(state)]
    state: ShutdownState,
}

/// Returns a server of three steps, with `first` as the first of them.
fn trio(trace: &Trace, first: Probe) -> Trio {
    let probe = |name| Probe::new(trace, name);
    Trio {
        first,
        second: probe("second"),
        third: probe("third"),
        state: ShutdownState::new(),
    }
}

const REST: [&str; 4] = ["second begins", "second ends", "third begins", "third ends"];

fn outcome<'a>(report: &'a Report, step: &str) -> &'a Outcome {
    report
        .step(step)
        .unwrap_or_else(|| panic!("no `{step}`: {report}"))
        .outcome()
}

#[tokio::test(start_paused = true)]
async fn an_error_becomes_an_outcome_the_step_is_aborted_and_the_plan_goes_on() {
    let trace = Trace::new();
    let report = trio(&trace, Probe::new(&trace, "first").error("disk full"))
        .shutdown()
        .await;
    assert!(
        matches!(outcome(&report, "first"), Outcome::Failed(error) if error.to_string() == "disk full")
    );
    assert_eq!(
        trace.all(),
        [["first begins", "first aborts"].as_slice(), &REST].concat()
    );
    assert!(!report.is_clean());
    assert_eq!(report.exit_code(), 1);
    let error = report.into_result().unwrap_err();
    assert!(
        error.to_string().contains("first failed: disk full"),
        "{error}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_panic_becomes_an_outcome_with_its_message_and_the_plan_goes_on() {
    let trace = Trace::new();
    let report = trio(
        &trace,
        Probe::new(&trace, "first").panic("index out of bounds"),
    )
    .shutdown()
    .await;
    assert!(
        matches!(outcome(&report, "first"), Outcome::Panicked(message) if message == "index out of bounds")
    );
    assert_eq!(
        trace.all(),
        [["first begins", "first aborts"].as_slice(), &REST].concat()
    );
    assert_eq!(report.exit_code(), 1, "101 is for main");
}

#[tokio::test(start_paused = true)]
async fn at_a_timeout_the_future_is_dropped_then_it_is_aborted_then_dependants_start() {
    let trace = Trace::new();
    let report = trio(&trace, Probe::new(&trace, "first").hang())
        .shutdown()
        .await;
    assert!(matches!(
        outcome(&report, "first"),
        Outcome::TimedOut { .. }
    ));
    let expected = [
        ["first begins", "first is cut", "first aborts"].as_slice(),
        &REST,
    ]
    .concat();
    assert_eq!(trace.all(), expected);
    assert_eq!(trace.when("second begins"), secs(2));
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_an_abort_is_contained_and_logged() {
    let trace = Trace::new();
    let (logs, guard) = Logs::capture();
    let report = trio(&trace, Probe::new(&trace, "first").hang().abort_panics())
        .shutdown()
        .await;
    drop(guard);
    assert!(matches!(
        outcome(&report, "first"),
        Outcome::TimedOut { .. }
    ));
    assert!(
        trace.all().ends_with(&REST.map(String::from)),
        "{:?}",
        trace.all()
    );
    let told = logs
        .all()
        .into_iter()
        .find(|event| event.field("error") == "the abort of first");
    let told = told.unwrap_or_else(|| panic!("{logs:#?}"));
    assert_eq!((told.level, told.field("step")), (Level::ERROR, "first"));
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_the_drop_of_a_cut_future_is_contained() {
    let trace = Trace::new();
    let report = trio(&trace, Probe::new(&trace, "first").hang().cut_panics())
        .shutdown()
        .await;
    assert!(
        matches!(outcome(&report, "first"), Outcome::TimedOut { .. }),
        "{report}"
    );
    assert_eq!(trace.count("first aborts"), 1);
    assert!(
        trace.all().ends_with(&REST.map(String::from)),
        "{:?}",
        trace.all()
    );
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_a_waiting_for_closure_is_contained() {
    struct Confused;
    impl Component for Confused {
        async fn cleanup(&mut self, cx: &Context) -> Result<(), BoxError> {
            cx.waiting_for(|| panic!("no idea"));
            std::future::pending().await
        }
    }
    #[derive(GracefulShutdown)]
    struct Server {
        #[shutdown(timeout = "7s")]
        confused: Confused,
        #[shutdown]
        next: Probe,
        #[shutdown(state)]
        state: ShutdownState,
    }
    let trace = Trace::new();
    let mut server = Server {
        confused: Confused,
        next: Probe::new(&trace, "next"),
        state: ShutdownState::new(),
    };
    let report = server.shutdown().await;
    let Outcome::TimedOut {
        waiting_for: Some(said),
    } = outcome(&report, "confused")
    else {
        panic!("{report}")
    };
    assert!(said.contains("no idea"), "{said}");
    assert_eq!(trace.all(), ["next begins", "next ends"]);
}

#[tokio::test(start_paused = true)]
async fn a_panic_payload_that_is_not_a_string_and_panics_itself_is_contained() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("the payload");
        }
    }
    #[derive(GracefulShutdown)]
    struct Server {
        #[shutdown(with = |_it| -> () { std::panic::panic_any(Bomb) })]
        bomb: u8,
        #[shutdown]
        next: Probe,
        #[shutdown(state)]
        state: ShutdownState,
    }
    let trace = Trace::new();
    let mut server = Server {
        bomb: 0,
        next: Probe::new(&trace, "next"),
        state: ShutdownState::new(),
    };
    let report = server.shutdown().await;
    assert!(
        matches!(outcome(&report, "bomb"), Outcome::Panicked(_)),
        "{report}"
    );
    assert_eq!(trace.count("next ends"), 1);
}

#[tokio::test(start_paused = true)]
async fn failures_of_every_kind_at_once_are_all_reported() {
    #[derive(GracefulShutdown)]
    struct Server {
        #[shutdown(priority = 0, timeout = "1s")]
        fails: Probe,
        #[shutdown(priority = 0, timeout = "1s")]
        panics: Probe,
        #[shutdown(priority = 0, timeout = "1s")]
        hangs: Probe,
        #[shutdown(priority = 0, timeout = "1s")]
        ends: Probe,
        #[shutdown(state)]
        state: ShutdownState,
    }
    let trace = Trace::new();
    let probe = |name| Probe::new(&trace, name);
    let mut server = Server {
        fails: probe("fails").error("disk full"),
        panics: probe("panics").panic("oh"),
        hangs: probe("hangs").hang().says("a client"),
        ends: probe("ends"),
        state: ShutdownState::new(),
    };
    let report = server.shutdown().await;
    assert!(matches!(outcome(&report, "fails"), Outcome::Failed(_)));
    assert!(matches!(outcome(&report, "panics"), Outcome::Panicked(_)));
    assert!(
        matches!(outcome(&report, "hangs"), Outcome::TimedOut { waiting_for: Some(what) } if what == "a client")
    );
    assert!(outcome(&report, "ends").is_done());
    assert_eq!(trace.count("ends aborts"), 0);
    let text = report.into_result().unwrap_err().to_string();
    for said in [
        "fails failed: disk full",
        "panics panicked: oh",
        "hangs timed out: waiting for a client",
    ] {
        assert!(text.contains(said), "{text}");
    }
}

#[derive(GracefulShutdown)]
struct Required {
    #[shutdown(priority = 0, required)]
    drain: Probe,
    #[shutdown(priority = 0)]
    beside: Probe,
    #[shutdown(after = drain)]
    flush: Probe,
    #[shutdown(after = flush)]
    pool: Probe,
    #[shutdown(after = beside)]
    logs: Probe,
    #[shutdown(state)]
    state: ShutdownState,
}

fn required(trace: &Trace, drain: Probe) -> Required {
    let probe = |name| Probe::new(trace, name);
    Required {
        drain,
        beside: probe("beside"),
        flush: probe("flush"),
        pool: probe("pool"),
        logs: probe("logs"),
        state: ShutdownState::new(),
    }
}

#[tokio::test(start_paused = true)]
async fn steps_after_a_required_step_that_is_not_done_are_skipped_and_aborted() {
    let trace = Trace::new();
    for drain in [
        Probe::new(&trace, "drain").error("broken"),
        Probe::new(&trace, "drain").panic("broken"),
        Probe::new(&trace, "drain").hang(),
    ] {
        let report = required(&trace, drain).shutdown().await;
        assert!(
            matches!(outcome(&report, "flush"), Outcome::Skipped),
            "{report}"
        );
        assert!(
            matches!(outcome(&report, "pool"), Outcome::Skipped),
            "transitively: {report}"
        );
        assert!(
            outcome(&report, "logs").is_done(),
            "it does not depend on it: {report}"
        );
        assert_eq!(report.exit_code(), 1);
        assert_eq!(
            (trace.count("flush begins"), trace.count("pool begins")),
            (0, 0)
        );
        assert_eq!(
            (trace.count("flush aborts"), trace.count("pool aborts")),
            (1, 1)
        );
        let events = trace.take();
        let place = |event: &str| events.iter().position(|this| this == event).unwrap();
        assert!(
            place("drain aborts") < place("flush aborts")
                && place("flush aborts") < place("pool aborts")
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_required_step_that_is_done_skips_nothing() {
    let trace = Trace::new();
    let report = required(&trace, Probe::new(&trace, "drain"))
        .shutdown()
        .await;
    assert!(report.is_clean(), "{report}");
    assert_eq!(trace.count("pool ends"), 1);
}

#[derive(GracefulShutdown)]
#[shutdown(part)]
struct Inner {
    #[shutdown(priority = 0, best_effort)]
    cache: Probe,
    #[shutdown(priority = 1)]
    journal: Probe,
    #[shutdown(priority = 1)]
    index: Probe,
}

#[derive(GracefulShutdown)]
struct Outer {
    #[shutdown(required)]
    inner: Inner,
    #[shutdown]
    pool: Probe,
    #[shutdown(state)]
    state: ShutdownState,
}

#[tokio::test(start_paused = true)]
async fn a_required_nested_plan_forgives_its_best_effort_steps_and_no_others() {
    let trace = Trace::new();
    let probe = |name| Probe::new(&trace, name);
    let inner = Inner {
        cache: probe("cache").error("cold"),
        journal: probe("journal"),
        index: probe("index"),
    };
    let mut server = Outer {
        inner,
        pool: probe("pool"),
        state: ShutdownState::new(),
    };
    let report = server.shutdown().await;
    assert!(report.is_clean(), "{report}");
    assert!(outcome(&report, "inner").is_done(), "{report}");
    assert!(matches!(
        outcome(&report, "inner.cache"),
        Outcome::Failed(_)
    ));
    assert_eq!(trace.count("pool ends"), 1);

    let inner = Inner {
        cache: probe("cache"),
        journal: probe("journal").error("full"),
        index: probe("index"),
    };
    let mut server = Outer {
        inner,
        pool: probe("pool"),
        state: ShutdownState::new(),
    };
    let report = server.shutdown().await;
    assert!(
        matches!(outcome(&report, "inner"), Outcome::Failed(_)),
        "{report}"
    );
    assert!(
        matches!(outcome(&report, "pool"), Outcome::Skipped),
        "{report}"
    );
    assert_eq!(trace.count("pool aborts"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_nested_step_that_is_done_is_not_aborted_because_another_failed() {
    let trace = Trace::new();
    let probe = |name| Probe::new(&trace, name);
    let inner = Inner {
        cache: probe("cache"),
        journal: probe("journal").error("full"),
        index: probe("index"),
    };
    let mut server = Outer {
        inner,
        pool: probe("pool"),
        state: ShutdownState::new(),
    };
    server.shutdown().await;
    let aborts: Vec<_> = trace
        .all()
        .into_iter()
        .filter(|event| event.ends_with("aborts"))
        .collect();
    assert_eq!(aborts, ["journal aborts", "pool aborts"]);
}

#[tokio::test(start_paused = true)]
async fn a_skipped_nested_plan_is_aborted_whole() {
    #[derive(GracefulShutdown)]
    struct Server {
        #[shutdown(required)]
        drain: Probe,
        #[shutdown]
        inner: Inner,
        #[shutdown(state)]
        state: ShutdownState,
    }
    let trace = Trace::new();
    let probe = |name| Probe::new(&trace, name);
    let inner = Inner {
        cache: probe("cache"),
        journal: probe("journal"),
        index: probe("index"),
    };
    let mut server = Server {
        drain: probe("drain").error("no"),
        inner,
        state: ShutdownState::new(),
    };
    let report = server.shutdown().await;
    assert!(
        matches!(outcome(&report, "inner"), Outcome::Skipped),
        "{report}"
    );
    for step in ["cache", "journal", "index"] {
        assert_eq!(
            trace.count(&format!("{step} aborts")),
            1,
            "{:?}",
            trace.all()
        );
        assert_eq!(
            trace.count(&format!("{step} begins")),
            0,
            "{:?}",
            trace.all()
        );
    }
}

#[tokio::test(start_paused = true)]
async fn best_effort_failures_leave_the_report_clean_and_the_exit_code_zero() {
    #[derive(GracefulShutdown)]
    struct Server {
        #[shutdown(priority = 0, best_effort)]
        fails: Probe,
        #[shutdown(priority = 0, best_effort)]
        panics: Probe,
        #[shutdown(priority = 0, best_effort, timeout = "1s")]
        hangs: Probe,
        #[shutdown(priority = 1)]
        last: Probe,
        #[shutdown(state)]
        state: ShutdownState,
    }
    let trace = Trace::new();
    let probe = |name| Probe::new(&trace, name);
    let mut server = Server {
        fails: probe("fails").error("no"),
        panics: probe("panics").panic("no"),
        hangs: probe("hangs").hang(),
        last: probe("last"),
        state: ShutdownState::new(),
    };
    let report = server.shutdown().await;
    assert!(matches!(outcome(&report, "fails"), Outcome::Failed(_)));
    assert!(matches!(outcome(&report, "panics"), Outcome::Panicked(_)));
    assert!(matches!(
        outcome(&report, "hangs"),
        Outcome::TimedOut { .. }
    ));
    assert!(report.is_clean(), "{report}");
    assert_eq!(report.exit_code(), 0);
    assert!(report.into_result().is_ok());
    assert_eq!(trace.count("hangs aborts"), 1);
}

#[derive(Clone)]
struct Client(Trace);

impl Client {
    async fn close(&self) -> Result<(), String> {
        self.0.add("client closes");
        std::future::pending().await
    }

    fn kill(&self) {
        self.0.add("client is killed");
    }
}

#[tokio::test(start_paused = true)]
async fn the_abort_key_runs_after_a_timeout() {
    #[derive(GracefulShutdown)]
    struct Server {
        #[shutdown(timeout = "1s", with = Client::close, abort = Client::kill)]
        client: Arc<Client>,
        #[shutdown]
        next: Probe,
        #[shutdown(state)]
        state: ShutdownState,
    }
    let trace = Trace::new();
    let client = Arc::new(Client(trace.clone()));
    let mut server = Server {
        client,
        next: Probe::new(&trace, "next"),
        state: ShutdownState::new(),
    };
    server.shutdown().await;
    assert_eq!(
        trace.all(),
        [
            "client closes",
            "client is killed",
            "next begins",
            "next ends"
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn an_error_keeps_its_causes() {
    #[derive(Debug)]
    struct Flush(std::io::Error);
    impl std::fmt::Display for Flush {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("the journal was not flushed")
        }
    }
    impl std::error::Error for Flush {
        fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
            Some(&self.0)
        }
    }
    #[derive(GracefulShutdown)]
    struct Server {
        #[shutdown(with = |_it| Err::<(), _>(Flush(std::io::Error::other("disk full"))))]
        journal: u8,
        #[shutdown(state)]
        state: ShutdownState,
    }
    let mut server = Server {
        journal: 0,
        state: ShutdownState::new(),
    };
    let report = server.shutdown().await;
    assert!(
        report
            .to_string()
            .contains("the journal was not flushed: disk full"),
        "{report}"
    );
    let Outcome::Failed(error) = outcome(&report, "journal") else {
        panic!("{report}")
    };
    assert!(error.downcast_ref::<Flush>().is_some());
}

#[tokio::test(start_paused = true)]
async fn an_error_that_panics_when_it_is_shown_is_contained() {
    /// An error whose `source` panics. If the field is `false`, its `Display` panics too.
    #[derive(Debug)]
    struct Bad(bool);
    impl std::fmt::Display for Bad {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            assert!(self.0, "the text of an error");
            f.write_str("a text")
        }
    }
    impl std::error::Error for Bad {
        fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
            panic!("the cause of an error")
        }
    }
    struct Fails(bool);
    impl Component for Fails {
        async fn cleanup(&mut self, _: &Context) -> Result<(), BoxError> {
            Err(Bad(self.0).into())
        }
    }
    #[derive(GracefulShutdown)]
    struct Pair {
        #[shutdown]
        inner: Vec<Fails>,
        #[shutdown]
        last: Probe,
        #[shutdown(state)]
        state: ShutdownState,
    }
    let trace = Trace::new();
    let report = Pair {
        inner: vec![Fails(false), Fails(true)],
        last: Probe::new(&trace, "last"),
        state: ShutdownState::new(),
    }
    .shutdown()
    .await;
    assert_eq!(trace.all(), ["last begins", "last ends"]);
    assert!(
        matches!(outcome(&report, "inner[0]"), Outcome::Failed(_)),
        "{report}"
    );
    assert!(
        report.to_string().contains("panics when it is displayed"),
        "{report}"
    );
    assert!(report.to_string().contains("a text"), "{report}");
}

#[tokio::test(start_paused = true)]
async fn panics_in_the_drops_of_interrupted_cleanups_are_contained() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("the drop of a cleanup");
        }
    }
    struct Hangs;
    impl Component for Hangs {
        async fn cleanup(&mut self, _: &Context) -> Result<(), BoxError> {
            let _bomb = Bomb;
            std::future::pending().await
        }
    }
    #[derive(GracefulShutdown)]
    struct Pair {
        #[shutdown(priority = 0, timeout = "1s")]
        one: Hangs,
        #[shutdown(priority = 0, timeout = "1s")]
        other: Hangs,
        #[shutdown(state)]
        state: ShutdownState,
    }
    let mut pair = Pair {
        one: Hangs,
        other: Hangs,
        state: ShutdownState::new(),
    };
    let mut shutdown = tokio_test::task::spawn(pair.shutdown());
    tokio_test::assert_pending!(shutdown.poll());
    drop(shutdown);
    let report = pair.shutdown().await;
    assert!(
        matches!(outcome(&report, "other"), Outcome::TimedOut { .. }),
        "{report}"
    );
}
