//! `abort` runs once, only on what is not done, whatever wraps it.

use std::sync::Arc;

use lifecycle_runtime::{
    Component, Components, DynComponent, GracefulShutdown, Report, ShutdownState,
};
use lifecycle_tests::{Probe, Trace};
use tokio_test::assert_pending;
use tokio_test::task::spawn;

#[derive(GracefulShutdown)]
#[shutdown(part)]
struct Plugin {
    #[shutdown(priority = 0)]
    good: Probe,
    #[shutdown(priority = 1)]
    bad: Probe,
}

#[derive(GracefulShutdown)]
#[shutdown(part)]
enum Kind {
    On {
        #[shutdown(priority = 0)]
        good: Probe,
        #[shutdown(priority = 1)]
        bad: Probe,
    },
    #[expect(dead_code, reason = "the other variant")]
    Off,
}

#[derive(GracefulShutdown)]
struct Owner<T: Component> {
    #[shutdown(leaf)]
    field: T,
    #[shutdown(state)]
    state: ShutdownState,
}

impl<T: Component> Owner<T> {
    fn new(field: T) -> Self {
        let state = ShutdownState::new();
        Self { field, state }
    }
}

fn good(trace: &Trace) -> Probe {
    Probe::new(trace, "good")
}

fn bad(trace: &Trace) -> Probe {
    Probe::new(trace, "bad").error("no")
}

fn plugin(trace: &Trace) -> Plugin {
    let (good, bad) = (good(trace), bad(trace));
    Plugin { good, bad }
}

fn assert_aborted_once(what: &str, trace: &Trace, report: &Report) {
    let aborts = (trace.count("good aborts"), trace.count("bad aborts"));
    assert_eq!(aborts, (0, 1), "{what}: {report}");
    trace.take();
}

async fn check<T: Component>(what: &str, trace: &Trace, wrapped: T) {
    let mut owner = Owner::new(wrapped);
    let report = owner.shutdown().await;
    assert!(!report.is_clean(), "{report}");
    assert_aborted_once(what, trace, &report);
    drop(owner);
    assert_eq!(trace.all(), [""; 0], "{what}: released after its shutdown");
}

#[tokio::test(start_paused = true)]
async fn whatever_wraps_a_part() {
    let trace = &Trace::new();
    let object = || -> Box<dyn DynComponent> { Box::new(plugin(trace)) };
    check("itself", trace, plugin(trace)).await;
    check(
        "an enum",
        trace,
        Kind::On {
            good: good(trace),
            bad: bad(trace),
        },
    )
    .await;
    check("an option", trace, Some(plugin(trace))).await;
    check("a box", trace, Box::new(plugin(trace))).await;
    check("an object", trace, object()).await;
    check(
        "an object of an object",
        trace,
        Box::new(object()) as Box<dyn DynComponent>,
    )
    .await;
    check("a list", trace, vec![plugin(trace)]).await;
    check(
        "an object that is a list",
        trace,
        Box::new(vec![plugin(trace)]) as Box<dyn DynComponent>,
    )
    .await;
    check("a tuple", trace, (plugin(trace),)).await;
    check(
        "a lock",
        trace,
        Arc::new(std::sync::Mutex::new(Some(plugin(trace)))),
    )
    .await;
    check(
        "an object in a lock",
        trace,
        Arc::new(tokio::sync::Mutex::new(Some(object()))),
    )
    .await;
    let components = Components::new();
    components.insert("x", plugin(trace)).ok().unwrap();
    check("components", trace, components).await;
}

#[tokio::test(start_paused = true)]
async fn whatever_wraps_leaves() {
    let trace = &Trace::new();
    let list = || vec![good(trace), bad(trace)];
    check("a list", trace, list()).await;
    check(
        "an object",
        trace,
        Box::new(list()) as Box<dyn DynComponent>,
    )
    .await;
    check("lists in a list", trace, vec![list()]).await;
    check("a tuple", trace, (good(trace), bad(trace))).await;
    check("a lock", trace, Arc::new(std::sync::Mutex::new(list()))).await;
}

macro_rules! with_closures {
    ($name:ident, $inside:ty) => {
        #[derive(GracefulShutdown)]
        struct $name {
            #[shutdown(with = |inside, cx| inside.cleanup(cx), abort = |inside| inside.abort())]
            inside: $inside,
            #[shutdown(state)]
            state: ShutdownState,
        }
    };
}

with_closures!(WithPart, Plugin);
with_closures!(WithKind, Kind);
with_closures!(WithList, Vec<Probe>);
with_closures!(WithParts, Vec<Plugin>);
with_closures!(WithObject, Box<dyn DynComponent>);
with_closures!(WithTuple, (Probe, Probe));

#[tokio::test(start_paused = true)]
async fn closures_that_clean_and_abort_the_value() {
    let trace = &Trace::new();
    macro_rules! check {
        ($name:ident, $inside:expr) => {
            let state = ShutdownState::new();
            let report = $name {
                inside: $inside,
                state,
            }
            .shutdown()
            .await;
            assert_aborted_once(stringify!($name), trace, &report);
        };
    }
    check!(WithPart, plugin(trace));
    check!(
        WithKind,
        Kind::On {
            good: good(trace),
            bad: bad(trace)
        }
    );
    check!(WithList, vec![good(trace), bad(trace)]);
    check!(WithParts, vec![plugin(trace)]);
    check!(WithObject, Box::new(plugin(trace)));
    check!(WithTuple, (good(trace), bad(trace)));
}

#[tokio::test(start_paused = true)]
async fn what_had_ended_when_a_shutdown_was_left_half_way_is_not_released() {
    let trace = Trace::new();
    let (held, _hold) = Probe::held(&trace, "bad");
    let plugin = Plugin {
        good: good(&trace),
        bad: held,
    };
    let mut owner = Owner::new(plugin);
    assert_pending!(spawn(owner.shutdown()).poll());
    // It is the field's own plan that is known, wherever the owner is moved.
    let owner = Box::new(owner);
    drop(owner);
    assert_eq!(trace.count("good releases"), 0);
    assert_eq!(trace.count("bad releases"), 1);
}

#[tokio::test(start_paused = true)]
async fn what_was_skipped_is_aborted_once() {
    #[derive(GracefulShutdown)]
    struct Server {
        #[shutdown(required)]
        first: Probe,
        #[shutdown]
        plugin: Plugin,
        #[shutdown(state)]
        state: ShutdownState,
    }
    let trace = Trace::new();
    let first = Probe::new(&trace, "first").error("no");
    let state = ShutdownState::new();
    let mut server = Server {
        first,
        plugin: plugin(&trace),
        state,
    };
    server.shutdown().await;
    assert_eq!(
        (trace.count("good aborts"), trace.count("bad aborts")),
        (1, 1)
    );
    assert_eq!(trace.count("good begins"), 0);
}
