//! Generated code causes no lint, although `lib.rs` makes every lint an error. `cargo clippy` checks that for clippy's
//! lints.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use lifecycle_runtime::{BoxError, Component, Context, GracefulShutdown, ShutdownState};

/// A component without steps.
#[derive(Debug)]
pub struct Leaf(u8);

impl Component for Leaf {
    async fn cleanup(&mut self, _: &Context) -> Result<(), BoxError> {
        self.0 = 0;
        Ok(())
    }
}

impl Leaf {
    async fn close(&self) {
        std::future::ready(()).await;
    }

    fn kill(&mut self) {
        self.0 = self.0.wrapping_add(1);
    }

    fn sync(&mut self) -> std::io::Result<()> {
        std::io::Write::write_all(&mut std::io::sink(), &[self.0])
    }

    async fn finish(self) -> Result<(), String> {
        std::future::ready(Ok(())).await
    }
}

/// An owner with several kinds of fields.
#[derive(Debug, GracefulShutdown)]
#[shutdown(timeout = self.grace, at_most = "60s", strict, name = "server")]
pub struct Server<'a, T: Component + Debug, const N: usize> {
    /// A field whose type is a parameter.
    #[shutdown(priority = 0, required)]
    pub inner: T,
    /// A deprecated field.
    #[deprecated(note = "use something else")]
    #[shutdown(priority = 0)]
    pub old: Leaf,
    #[shutdown(priority = 1, with = Leaf::close, abort = |leaf| { drop(leaf.clone()); })]
    shared: Arc<Leaf>,
    #[shutdown(priority = 1, with = |leaf| leaf.close(), timeout = self.grace, best_effort)]
    closure: Leaf,
    #[shutdown(after = closure, with = |leaf, _cx| leaf.close(), abort = Leaf::kill)]
    optional: Option<Leaf>,
    #[shutdown(after = closure, with = Leaf::sync, blocking)]
    blocking: Option<Leaf>,
    #[shutdown(after(closure, blocking), with = |leaf| leaf.finish(), take)]
    taken: Option<Leaf>,
    #[shutdown(after = taken, with = |numbers| numbers.fill(u8::from(self.text.is_empty())))]
    numbers: [u8; N],
    #[shutdown(priority = 9)]
    part: Part,
    #[shutdown(priority = 9)]
    either: Either,
    #[shutdown(skip)]
    text: &'a str,
    #[shutdown(skip)]
    grace: Duration,
    #[shutdown(state)]
    state: ShutdownState,
}

/// A part with a deprecated field type.
#[derive(Debug, GracefulShutdown)]
#[allow(deprecated)] // The type of a field is deprecated.
#[shutdown(part, timeout = "5s")]
pub struct Part(
    #[shutdown] Leaf,
    #[shutdown(with = Leaf::close)] Leaf,
    pub Old,
);

/// A deprecated type.
#[deprecated(note = "use something else")]
#[derive(Debug)]
pub struct Old;

/// An enum as a part.
#[derive(Debug, GracefulShutdown)]
pub enum Either {
    /// A variant with a step.
    Live {
        /// The field of the step.
        #[shutdown]
        leaf: Leaf,
        /// A field without a step.
        grace: Duration,
    },
    /// A variant without steps.
    Gone,
}
