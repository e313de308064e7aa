//! Steps run in the declared order, which is a graph and not a list of layers.

use lifecycle_runtime::{GracefulShutdown, ShutdownState};
use lifecycle_tests::{Hold, Probe, Trace};
use tokio_test::task::spawn;
use tokio_test::{assert_pending, assert_ready};

#[derive(GracefulShutdown)]
struct Graph {
    #[shutdown(priority = 0)]
    tell: Probe,
    #[shutdown(priority = 10)]
    drain: Probe,
    #[shutdown(priority = 10)]
    background: Probe,
    // `recorder` waits for `drain` alone, and not for the other steps of `drain`'s priority.
    #[shutdown(after = drain)]
    recorder: Probe,
    #[shutdown(after = background)]
    cache: Probe,
    #[shutdown(after(recorder, cache))]
    pool: Probe,
    #[shutdown(state)]
    state: ShutdownState,
}

struct Holds {
    tell: Hold,
    drain: Hold,
    background: Hold,
    recorder: Hold,
    cache: Hold,
    pool: Hold,
}

fn graph(trace: &Trace) -> (Graph, Holds) {
    let held = |name| Probe::held(trace, name);
    let (tell, hold_tell) = held("tell");
    let (drain, hold_drain) = held("drain");
    let (background, hold_background) = held("background");
    let (recorder, hold_recorder) = held("recorder");
    let (cache, hold_cache) = held("cache");
    let (pool, hold_pool) = held("pool");
    let state = ShutdownState::new();
    let server = Graph {
        tell,
        drain,
        background,
        recorder,
        cache,
        pool,
        state,
    };
    let holds = Holds {
        tell: hold_tell,
        drain: hold_drain,
        background: hold_background,
        recorder: hold_recorder,
        cache: hold_cache,
        pool: hold_pool,
    };
    (server, holds)
}

#[tokio::test(start_paused = true)]
async fn a_step_starts_as_soon_as_its_dependencies_have_ended() {
    let trace = Trace::new();
    let (mut server, hold) = graph(&trace);
    let mut shutdown = spawn(server.shutdown());

    assert_pending!(shutdown.poll());
    assert_eq!(trace.take(), ["tell begins"]);

    hold.tell.release();
    assert!(shutdown.is_woken());
    assert_pending!(shutdown.poll());
    assert_eq!(
        trace.take(),
        ["tell ends", "drain begins", "background begins"],
        "equal numbers together"
    );

    hold.background.release();
    assert_pending!(shutdown.poll());
    assert_eq!(
        trace.take(),
        ["background ends", "cache begins"],
        "though `drain` still runs"
    );

    hold.drain.release();
    assert_pending!(shutdown.poll());
    assert_eq!(
        trace.take(),
        ["drain ends", "recorder begins"],
        "while `cache` still runs"
    );

    hold.recorder.release();
    assert_pending!(shutdown.poll());
    assert_eq!(trace.take(), ["recorder ends"], "`pool` waits for both");

    hold.cache.release();
    assert_pending!(shutdown.poll());
    assert_eq!(trace.take(), ["cache ends", "pool begins"]);

    hold.pool.release();
    let report = assert_ready!(shutdown.poll());
    assert!(report.is_clean(), "{report}");
    assert_eq!(trace.take(), ["pool ends"]);
}

#[tokio::test(start_paused = true)]
async fn independent_steps_overlap_in_time() {
    #[derive(GracefulShutdown)]
    struct Pair {
        #[shutdown(priority = 0)]
        one: Probe,
        #[shutdown(priority = 0)]
        two: Probe,
        #[shutdown(state)]
        state: ShutdownState,
    }

    let trace = Trace::new();
    let sleeps = |name| Probe::new(&trace, name).sleep(lifecycle_tests::ms(300));
    let mut server = Pair {
        one: sleeps("one"),
        two: sleeps("two"),
        state: ShutdownState::new(),
    };
    let report = server.shutdown().await;
    assert_eq!(report.elapsed(), lifecycle_tests::ms(300), "{report}");
    assert_eq!(
        trace.all(),
        ["one begins", "two begins", "one ends", "two ends"]
    );
}

#[tokio::test(start_paused = true)]
async fn lower_numbers_run_first_whatever_the_order_of_the_fields() {
    #[derive(GracefulShutdown)]
    struct Backwards {
        #[shutdown(priority = 7)]
        last: Probe,
        #[shutdown(priority = -3)]
        first: Probe,
        #[shutdown(priority = 0)]
        middle: Probe,
        #[shutdown(state)]
        state: ShutdownState,
    }

    let trace = Trace::new();
    let probe = |name| Probe::new(&trace, name);
    let (last, first, middle) = (probe("last"), probe("first"), probe("middle"));
    let mut server = Backwards {
        last,
        first,
        middle,
        state: ShutdownState::new(),
    };
    let report = server.shutdown().await;
    let begins: Vec<_> = trace
        .all()
        .into_iter()
        .filter(|event| event.ends_with("begins"))
        .collect();
    assert_eq!(begins, ["first begins", "middle begins", "last begins"]);
    let priorities: Vec<_> = report
        .steps()
        .iter()
        .map(|step| (step.name(), step.priority()))
        .collect();
    assert_eq!(priorities, [("first", -3), ("middle", 0), ("last", 7)]);
}

#[tokio::test(start_paused = true)]
async fn without_any_order_steps_run_one_after_the_other_as_rust_drops_fields() {
    #[derive(GracefulShutdown)]
    struct Declared {
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
    let (one, hold) = Probe::held(&trace, "one");
    let (two, three) = (Probe::new(&trace, "two"), Probe::new(&trace, "three"));
    let mut server = Declared {
        one,
        two,
        three,
        state: ShutdownState::new(),
    };
    let mut shutdown = spawn(server.shutdown());
    assert_pending!(shutdown.poll());
    assert_eq!(trace.take(), ["one begins"]);
    hold.release();
    assert_ready!(shutdown.poll());
    assert_eq!(
        trace.take(),
        [
            "one ends",
            "two begins",
            "two ends",
            "three begins",
            "three ends"
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_tuple_struct_is_ordered_by_its_positions() {
    #[derive(GracefulShutdown)]
    struct Places(
        #[shutdown(after = 1)] Probe,
        #[shutdown(priority = 0)] Probe,
        #[shutdown(state)] ShutdownState,
    );

    let trace = Trace::new();
    let mut server = Places(
        Probe::new(&trace, "zero"),
        Probe::new(&trace, "one"),
        ShutdownState::new(),
    );
    let report = server.shutdown().await;
    assert_eq!(
        trace.all(),
        ["one begins", "one ends", "zero begins", "zero ends"]
    );
    assert!(report.step("1").is_some(), "{report}");
}

#[tokio::test(start_paused = true)]
async fn a_nested_plan_keeps_its_own_order_inside_its_step() {
    #[derive(GracefulShutdown)]
    #[shutdown(part)]
    struct Storage {
        #[shutdown(priority = 1)]
        pool: Probe,
        #[shutdown(priority = 0)]
        writer: Probe,
    }
    #[derive(GracefulShutdown)]
    struct Server {
        #[shutdown(priority = 0)]
        storage: Storage,
        #[shutdown(priority = 1)]
        logs: Probe,
        #[shutdown(state)]
        state: ShutdownState,
    }

    let trace = Trace::new();
    let probe = |name| Probe::new(&trace, name);
    let storage = Storage {
        pool: probe("pool"),
        writer: probe("writer"),
    };
    let mut server = Server {
        storage,
        logs: probe("logs"),
        state: ShutdownState::new(),
    };
    let report = server.shutdown().await;
    assert!(report.is_clean(), "{report}");
    let begins: Vec<_> = trace
        .all()
        .into_iter()
        .filter(|event| event.ends_with("begins"))
        .collect();
    assert_eq!(begins, ["writer begins", "pool begins", "logs begins"]);
    assert!(
        report
            .step("storage.pool")
            .is_some_and(|step| step.outcome().is_done())
    );
}

#[tokio::test(start_paused = true)]
async fn an_enum_cleans_its_live_variant_in_that_variants_order() {
    #[derive(GracefulShutdown)]
    enum Backend {
        Pair {
            #[shutdown(after = second)]
            first: Probe,
            #[shutdown(priority = 0)]
            second: Probe,
        },
        One(#[shutdown] Probe),
        Nothing,
    }
    #[derive(GracefulShutdown)]
    struct Server {
        #[shutdown]
        backend: Backend,
        #[shutdown(state)]
        state: ShutdownState,
    }

    let trace = Trace::new();
    let probe = |name| Probe::new(&trace, name);
    for (backend, expected) in [
        (
            Backend::Pair {
                first: probe("first"),
                second: probe("second"),
            },
            vec!["second begins", "second ends", "first begins", "first ends"],
        ),
        (Backend::One(probe("one")), vec!["one begins", "one ends"]),
        (Backend::Nothing, vec![]),
    ] {
        let mut server = Server {
            backend,
            state: ShutdownState::new(),
        };
        let report = server.shutdown().await;
        assert!(report.is_clean(), "{report}");
        assert_eq!(trace.take(), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn an_owner_of_many_steps_runs_them_all_and_reports_the_one_that_failed() {
    #[derive(GracefulShutdown)]
    struct Many {
        #[shutdown]
        a: Probe,
        #[shutdown]
        b: Probe,
        #[shutdown]
        c: Probe,
        #[shutdown]
        d: Probe,
        #[shutdown]
        e: Probe,
        #[shutdown]
        f: Probe,
        #[shutdown]
        g: Probe,
        #[shutdown]
        h: Probe,
        #[shutdown]
        i: Probe,
        #[shutdown]
        j: Probe,
        #[shutdown]
        k: Probe,
        #[shutdown]
        l: Probe,
        #[shutdown]
        m: Probe,
        #[shutdown]
        n: Probe,
        #[shutdown]
        o: Probe,
        #[shutdown]
        p: Probe,
        #[shutdown]
        q: Probe,
        #[shutdown]
        r: Probe,
        #[shutdown]
        s: Probe,
        #[shutdown]
        t: Probe,
        #[shutdown]
        u: Probe,
        #[shutdown(state)]
        state: ShutdownState,
    }

    #[derive(GracefulShutdown)]
    struct Server {
        #[shutdown]
        many: Many,
        #[shutdown(state)]
        state: ShutdownState,
    }

    let trace = Trace::new();
    let probe = |name| Probe::new(&trace, name);
    let many = Many {
        a: probe("a"),
        b: probe("b"),
        c: probe("c"),
        d: probe("d"),
        e: probe("e"),
        f: probe("f"),
        g: probe("g"),
        h: probe("h"),
        i: probe("i"),
        j: probe("j"),
        k: probe("k"),
        l: probe("l"),
        m: probe("m"),
        n: probe("n"),
        o: probe("o"),
        p: probe("p"),
        q: probe("q"),
        r: probe("r"),
        s: probe("s"),
        t: probe("t"),
        u: probe("u").error("no"),
        state: ShutdownState::new(),
    };
    let state = ShutdownState::new();
    let report = Server { many, state }.shutdown().await;
    let begins: String = trace
        .all()
        .iter()
        .filter_map(|event| event.strip_suffix(" begins"))
        .collect();
    assert_eq!(begins, "abcdefghijklmnopqrstu");
    let outcome = report.step("many").unwrap().outcome();
    assert!(!outcome.is_done(), "{report}");
}
