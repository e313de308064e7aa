//! `abort` runs once on each step that is not done, and on no other, whatever wraps the component.

use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use lifecycle_runtime::{
    BoxError, Component, Components, Context, DynComponent, GracefulShutdown, Report, ShutdownState,
};
use lifecycle_tests::{LeafOwner, Probe, Trace, secs};
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
    let mut owner = LeafOwner::new(wrapped);
    let report = owner.shutdown().await;
    assert!(!report.is_clean(), "{report}");
    assert_aborted_once(what, trace, &report);
    drop(owner);
    assert_eq!(trace.all(), [""; 0], "{what}: released after its shutdown");
}

#[tokio::test(start_paused = true)]
async fn a_wrapped_part_is_aborted_once() {
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
async fn wrapped_leaves_are_aborted_once() {
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
async fn a_value_that_closures_clean_and_abort_is_aborted_once() {
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
async fn steps_that_had_ended_before_an_interruption_are_not_released() {
    let trace = Trace::new();
    let (held, _hold) = Probe::held(&trace, "bad");
    let plugin = Plugin {
        good: good(&trace),
        bad: held,
    };
    let mut owner = LeafOwner::new(plugin);
    assert_pending!(spawn(owner.shutdown()).poll());
    // The engine finds the plan's progress by the field and not by its address, so the owner may be moved to another
    // address.
    let owner = Box::new(owner);
    drop(owner);
    assert_eq!(trace.count("good releases"), 0);
    assert_eq!(trace.count("bad releases"), 1);
}

#[tokio::test(start_paused = true)]
async fn skipped_steps_are_aborted_once() {
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

/// A component that cleans its two parts one after the other and stops at the first failure. Its `abort` aborts both
/// parts.
struct InTurn([Plugin; 2]);

impl Component for InTurn {
    async fn cleanup(&mut self, cx: &Context) -> Result<(), BoxError> {
        for part in &mut self.0 {
            part.cleanup(cx).await?;
        }
        Ok(())
    }

    fn abort(&mut self) {
        self.0.iter_mut().for_each(Component::abort);
    }
}

#[tokio::test(start_paused = true)]
async fn a_part_is_not_confused_with_another_of_its_type() {
    let trace = Trace::new();
    let probe = |name| Probe::new(&trace, name);
    let later = Plugin {
        good: probe("later good"),
        bad: probe("later bad"),
    };
    let mut owner = LeafOwner::new(InTurn([plugin(&trace), later]));
    let report = owner.shutdown().await;
    assert_eq!(trace.count("later good begins"), 0, "{report}");
    for name in ["bad", "later good", "later bad"] {
        assert_eq!(trace.count(&format!("{name} aborts")), 1, "{name}");
    }
    assert_eq!(trace.count("good aborts"), 0);
}

#[tokio::test(start_paused = true)]
async fn a_hand_written_component_is_aborted_itself_whatever_wraps_it() {
    /// A component that cleans only its first field. Its `abort` also aborts the second field.
    struct Holds(Plugin, Probe);
    impl Component for Holds {
        async fn cleanup(&mut self, cx: &Context) -> Result<(), BoxError> {
            self.0.cleanup(cx).await
        }

        fn abort(&mut self) {
            self.0.abort();
            self.1.abort();
        }
    }
    /// A `Holds` in a lock, which is a component by shared reference.
    struct Shares(std::sync::Mutex<Holds>);
    impl Component for &Shares {
        async fn cleanup(&mut self, cx: &Context) -> Result<(), BoxError> {
            let mut plugin = {
                let mut holds = self.0.lock().unwrap();
                let trace = Trace::new();
                std::mem::replace(&mut holds.0, plugin(&trace))
            };
            plugin.cleanup(cx).await
        }

        fn abort(&mut self) {
            self.0.lock().unwrap().1.abort();
        }
    }
    async fn check<T: Component>(trace: &Trace, wrapped: T) {
        let mut owner = LeafOwner::new(wrapped);
        let report = owner.shutdown().await;
        assert_eq!(trace.count("held aborts"), 1, "{report}");
        assert_aborted_once("by hand", trace, &report);
    }
    let trace = &Trace::new();
    let holds = || Holds(plugin(trace), Probe::new(trace, "held"));
    check(trace, holds()).await;
    check(trace, Some(holds())).await;
    check(trace, Box::new(holds())).await;
    check(trace, Box::new(holds()) as Box<dyn DynComponent>).await;
    check(trace, vec![holds()]).await;
    check(trace, std::sync::Mutex::new(holds())).await;
    let shares = Shares(std::sync::Mutex::new(holds()));
    check(trace, Arc::new(shares)).await;
}

/// A struct whose first part has the address of the struct itself.
#[derive(GracefulShutdown)]
#[shutdown(part)]
#[repr(C)]
struct Around {
    #[shutdown]
    plugin: Plugin,
    #[shutdown]
    log: Probe,
}

#[tokio::test(start_paused = true)]
async fn a_part_is_not_confused_with_one_of_another_type_at_the_same_address() {
    struct Inside(Around);
    impl Component for Inside {
        async fn cleanup(&mut self, cx: &Context) -> Result<(), BoxError> {
            self.0.plugin.cleanup(cx).await
        }

        fn abort(&mut self) {
            self.0.abort();
        }
    }
    let trace = Trace::new();
    let around = Around {
        plugin: plugin(&trace),
        log: Probe::new(&trace, "log"),
    };
    let mut owner = LeafOwner::new(Inside(around));
    let around = &owner.field.0;
    assert!(ptr::addr_eq(around, &around.plugin));
    let report = owner.shutdown().await;
    assert_eq!(trace.count("log aborts"), 1, "{report}");
}

/// A part of size zero, so that several values may have the same address.
#[derive(GracefulShutdown)]
#[shutdown(part)]
struct Empty {
    #[shutdown]
    step: Weightless,
}

struct Weightless;

static WEIGHTLESS_ABORTS: AtomicUsize = AtomicUsize::new(0);

impl Component for Weightless {
    async fn cleanup(&mut self, _: &Context) -> Result<(), BoxError> {
        Err("no".into())
    }

    fn abort(&mut self) {
        WEIGHTLESS_ABORTS.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test(start_paused = true)]
async fn parts_that_share_their_address_are_not_confused() {
    struct Pair(Empty, Empty);
    impl Component for Pair {
        async fn cleanup(&mut self, cx: &Context) -> Result<(), BoxError> {
            self.0.cleanup(cx).await?;
            self.1.cleanup(cx).await
        }

        fn abort(&mut self) {
            self.1.abort();
        }
    }
    let empty = || Empty { step: Weightless };
    let mut owner = LeafOwner::new(Pair(empty(), empty()));
    assert!(ptr::addr_eq(&owner.field.0, &owner.field.1));
    owner.shutdown().await;
    // The engine aborts the first part, and the `abort` of `Pair` aborts the second part.
    assert_eq!(WEIGHTLESS_ABORTS.swap(0, Ordering::Relaxed), 2);

    async fn check<T: Component>(wrapped: T) {
        LeafOwner::new(wrapped).shutdown().await;
        assert_eq!(WEIGHTLESS_ABORTS.swap(0, Ordering::Relaxed), 1);
    }
    check(empty()).await;
    check(Some(empty())).await;
    check(Box::new(empty())).await;
    check(Box::new(empty()) as Box<dyn DynComponent>).await;
    check(std::sync::Mutex::new(empty())).await;
    check(vec![empty()]).await;
}

/// A component that cleans a list for a second at most. Its own `abort` aborts the elements.
struct Hurried(Vec<Plugin>);

impl Component for Hurried {
    async fn cleanup(&mut self, cx: &Context) -> Result<(), BoxError> {
        let cleanup = self.0.cleanup(cx);
        tokio::time::timeout(secs(1), cleanup).await?
    }

    fn abort(&mut self) {
        self.0.iter_mut().for_each(Component::abort);
    }
}

#[tokio::test(start_paused = true)]
async fn elements_of_an_abandoned_list_are_aborted_once() {
    let trace = Trace::new();
    let hangs = Probe::new(&trace, "bad").hang();
    let list = vec![Plugin {
        good: good(&trace),
        bad: hangs,
    }];
    let mut owner = LeafOwner::new(Hurried(list));
    let report = owner.shutdown().await;
    assert_aborted_once("a list in time", &trace, &report);
}

#[tokio::test(start_paused = true)]
async fn elements_of_a_list_that_has_ended_are_aborted_once() {
    let trace = Trace::new();
    let mut owner = LeafOwner::new(Hurried(vec![plugin(&trace)]));
    let report = owner.shutdown().await;
    assert_aborted_once("a list that ended", &trace, &report);
}

#[tokio::test(start_paused = true)]
async fn a_part_beside_a_list_that_has_ended_is_aborted() {
    struct Beside(Vec<Plugin>, Plugin);
    impl Component for Beside {
        async fn cleanup(&mut self, cx: &Context) -> Result<(), BoxError> {
            self.0.cleanup(cx).await?;
            self.1.cleanup(cx).await
        }

        fn abort(&mut self) {
            self.1.abort();
        }
    }
    let trace = Trace::new();
    let later = Plugin {
        good: Probe::new(&trace, "later good"),
        bad: Probe::new(&trace, "later bad"),
    };
    let mut owner = LeafOwner::new(Beside(vec![plugin(&trace)], later));
    let report = owner.shutdown().await;
    for name in ["later good aborts", "later bad aborts"] {
        assert_eq!(trace.count(name), 1, "{report}");
    }
}
