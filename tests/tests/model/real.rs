//! Builds the real server of a case, from the components of the library under test.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::future::pending;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lifecycle_runtime::{
    BoxError, Component, Components, Context, DynComponent, GracefulShutdown, ShutdownState,
};
use tokio::time::sleep;

use crate::describe::{End, Node, Script};

/// The unit of all times in a case.
pub(crate) const UNIT: Duration = Duration::from_millis(50);

/// The record of what the engine did to each leaf. The index is the leaf's number.
#[derive(Debug, Default)]
pub(crate) struct Log(Mutex<Vec<Arc<Counts>>>);

#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) begins: AtomicU32,
    pub(crate) ends: AtomicU32,
    pub(crate) cuts: AtomicU32,
    pub(crate) aborts: AtomicU32,
    pub(crate) releases: AtomicU32,
}

impl Counts {
    pub(crate) fn all(&self) -> [u32; 5] {
        [
            &self.begins,
            &self.ends,
            &self.cuts,
            &self.aborts,
            &self.releases,
        ]
        .map(|count| count.load(Ordering::Relaxed))
    }
}

impl Log {
    fn next(&self) -> Arc<Counts> {
        let counts = Arc::<Counts>::default();
        self.0.lock().unwrap().push(Arc::clone(&counts));
        counts
    }

    pub(crate) fn all(&self) -> Vec<[u32; 5]> {
        let counts = self.0.lock().unwrap();
        counts.iter().map(|counts| counts.all()).collect()
    }
}

fn add(count: &AtomicU32) {
    count.fetch_add(1, Ordering::Relaxed);
}

pub(crate) struct Leaf {
    script: Script,
    counts: Arc<Counts>,
}

/// A guard in the future of a leaf's cleanup. If the future is dropped before its end, the guard counts it as cut.
struct Flight<'a> {
    counts: &'a Counts,
    ended: bool,
    drop_panics: bool,
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        if !self.ended {
            add(&self.counts.cuts);
        }
        assert!(!self.drop_panics, "the drop of a future");
    }
}

/// An error that panics when it is displayed, and when it is dropped.
#[derive(Debug)]
struct Hostile;

impl fmt::Display for Hostile {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        panic!("shown")
    }
}

impl Error for Hostile {}

impl Drop for Hostile {
    fn drop(&mut self) {
        panic!("dropped");
    }
}

impl Leaf {
    async fn run(script: Script, counts: &Counts) -> Result<(), BoxError> {
        add(&counts.begins);
        let mut flight = Flight {
            counts,
            ended: false,
            drop_panics: matches!(script.end, End::OkDropPanics | End::HangDropPanics),
        };
        if matches!(script.end, End::Hang | End::HangDropPanics) {
            pending::<()>().await;
        }
        if script.time > 0 {
            sleep(UNIT * u32::try_from(script.time).unwrap()).await;
        }
        flight.ended = true;
        finish(script.end, counts)
    }

    async fn close(self) -> Result<(), BoxError> {
        Self::run(self.script, &self.counts).await
    }

    fn kill(self) {
        add(&self.counts.aborts);
        assert!(!self.script.abort_panics, "an abort");
    }

    fn close_blocking(&mut self) -> Result<(), BoxError> {
        add(&self.counts.begins);
        finish(self.script.end, &self.counts)
    }

    fn kill_blocking(&mut self) {
        add(&self.counts.aborts);
    }
}

fn finish(end: End, counts: &Counts) -> Result<(), BoxError> {
    match end {
        End::Fail => Err("it failed".into()),
        End::FailHostile => Err(Hostile.into()),
        End::Panic => std::panic::resume_unwind(Box::new("it panicked")),
        End::Ok | End::OkDropPanics | End::Hang | End::HangDropPanics => {
            add(&counts.ends);
            Ok(())
        }
    }
}

impl Component for Leaf {
    async fn cleanup(&mut self, _: &Context) -> Result<(), BoxError> {
        Self::run(self.script, &self.counts).await
    }

    fn abort(&mut self) {
        add(&self.counts.aborts);
        assert!(!self.script.abort_panics, "an abort");
    }

    fn release(&mut self) {
        add(&self.counts.releases);
    }
}

#[derive(GracefulShutdown)]
#[shutdown(part)]
pub(crate) struct Chain {
    #[shutdown(priority = 0, leaf)]
    a: Real,
    #[shutdown(priority = 1, leaf)]
    b: Real,
}

#[derive(GracefulShutdown)]
#[shutdown(part)]
pub(crate) struct Flat {
    #[shutdown(priority = 0, leaf, best_effort)]
    a: Real,
    #[shutdown(priority = 0, leaf)]
    b: Real,
}

#[derive(GracefulShutdown)]
pub(crate) struct Inner {
    #[shutdown(priority = 0, leaf)]
    a: Real,
    #[shutdown(priority = 1, leaf)]
    b: Real,
    #[shutdown(state)]
    state: ShutdownState,
}

/// A component of any kind in [`Node`]. The component is the field `0` of its variant.
#[derive(GracefulShutdown)]
#[shutdown(part)]
pub(crate) enum Real {
    Leaf(#[shutdown] Leaf),
    Chain(#[shutdown(leaf)] Box<Chain>),
    Flat(#[shutdown(leaf)] Box<Flat>),
    Tuple(#[shutdown(leaf)] Box<(Real, Real)>),
    Owner(#[shutdown(leaf)] Box<Inner>),
    List(#[shutdown(leaf)] Vec<Real>),
    Map(#[shutdown(leaf)] BTreeMap<u64, Real>),
    Components(#[shutdown] Components),
    Locked(#[shutdown(leaf)] Arc<Mutex<Vec<Real>>>),
    Maybe(#[shutdown(leaf)] Option<Box<Real>>),
    Object(#[shutdown] Box<dyn DynComponent>),
    Blocking(
        #[shutdown(blocking, with = Leaf::close_blocking, abort = Leaf::kill_blocking)]
        Option<Leaf>,
    ),
    Taken(#[shutdown(take, with = Leaf::close, abort = Leaf::kill)] Option<Leaf>),
}

impl Real {
    pub(crate) fn build(node: &Node, log: &Log) -> Self {
        let leaf = |script: Script| Leaf {
            script,
            counts: log.next(),
        };
        let all = |nodes: &[Node]| -> Vec<Self> {
            nodes.iter().map(|node| Self::build(node, log)).collect()
        };
        match node {
            Node::Leaf(script) => Self::Leaf(leaf(*script)),
            Node::Chain(nodes) => {
                let (a, b) = (Self::build(&nodes[0], log), Self::build(&nodes[1], log));
                Self::Chain(Box::new(Chain { a, b }))
            }
            Node::Flat(nodes) => {
                let (a, b) = (Self::build(&nodes[0], log), Self::build(&nodes[1], log));
                Self::Flat(Box::new(Flat { a, b }))
            }
            Node::Tuple(nodes) => Self::Tuple(Box::new((
                Self::build(&nodes[0], log),
                Self::build(&nodes[1], log),
            ))),
            Node::Owner(nodes) => {
                let (a, b) = (Self::build(&nodes[0], log), Self::build(&nodes[1], log));
                let state = ShutdownState::new();
                Self::Owner(Box::new(Inner { a, b, state }))
            }
            Node::List(nodes) => Self::List(all(nodes)),
            Node::Map(nodes) => Self::Map((0..).zip(all(nodes)).collect()),
            Node::Components(nodes) => {
                let components = Components::new();
                for (i, real) in all(nodes).into_iter().enumerate() {
                    assert!(components.insert(i.to_string(), real).is_ok());
                }
                Self::Components(components)
            }
            Node::Locked(nodes) => Self::Locked(Arc::new(Mutex::new(all(nodes)))),
            Node::Maybe(node) => {
                Self::Maybe(node.as_ref().map(|node| Box::new(Self::build(node, log))))
            }
            Node::Object(node) => Self::Object(Box::new(Self::build(node, log))),
            Node::Blocking(end) => Self::Blocking(Some(leaf(Script {
                time: 0,
                end: *end,
                abort_panics: false,
            }))),
            Node::Taken(script) => Self::Taken(Some(leaf(*script))),
        }
    }
}

/// The timeouts of the server's four fields, and the timeout of the whole server.
#[derive(Clone, Copy)]
pub(crate) struct Times {
    pub(crate) fields: [Duration; 4],
    pub(crate) total: Duration,
}

macro_rules! shape {
    ($name:ident: $a:tt $b:tt $c:tt $d:tt) => {
        #[derive(GracefulShutdown)]
        #[shutdown(timeout = self.times.total)]
        pub(crate) struct $name {
            #[shutdown $a]
            pub(crate) a: Real,
            #[shutdown $b]
            pub(crate) b: Real,
            #[shutdown $c]
            pub(crate) c: Real,
            #[shutdown $d]
            pub(crate) d: Real,
            pub(crate) times: Times,
            #[shutdown(state)]
            pub(crate) state: ShutdownState,
        }

        impl $name {
            pub(crate) fn new([a, b, c, d]: [Real; 4], times: Times) -> Self {
                let state = ShutdownState::new();
                Self { a, b, c, d, times, state }
            }

            pub(crate) fn field(&mut self, i: usize) -> &mut Real {
                match i {
                    0 => &mut self.a,
                    1 => &mut self.b,
                    2 => &mut self.c,
                    _ => &mut self.d,
                }
            }
        }
    };
}

shape!(Chained:
    (leaf, priority = 0, timeout = self.times.fields[0])
    (leaf, priority = 1, timeout = self.times.fields[1])
    (leaf, priority = 2, timeout = self.times.fields[2])
    (leaf, priority = 3, timeout = self.times.fields[3]));
shape!(Diamond:
    (leaf, priority = 0, timeout = self.times.fields[0])
    (leaf, after = a, timeout = self.times.fields[1])
    (leaf, after = a)
    (leaf, after(b, c), timeout = self.times.fields[3]));
shape!(Mixed:
    (leaf, priority = 0, required, timeout = self.times.fields[0])
    (leaf, priority = 0, best_effort, timeout = self.times.fields[1])
    (leaf, priority = 1)
    (leaf, priority = 2, best_effort, timeout = self.times.fields[3]));
