//! Generated code is silent where every lint is an error.
#![deny(
    warnings,
    missing_docs,
    unreachable_pub,
    unused_qualifications,
    unused_lifetimes,
    single_use_lifetimes,
    trivial_casts,
    trivial_numeric_casts,
    elided_lifetimes_in_paths,
    explicit_outlives_requirements,
    missing_debug_implementations,
    variant_size_differences,
    unused_results,
    unused_import_braces,
    redundant_lifetimes,
    non_ascii_idents,
    future_incompatible,
    rust_2018_idioms,
    clippy::all,
    clippy::pedantic,
    clippy::nursery
)]
#![forbid(unsafe_code)]

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use lifecycle_runtime::{BoxError, Component, Context, GracefulShutdown, ShutdownState};

/// A leaf.
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
        self.0 = 1;
    }

    fn sync(&mut self) -> std::io::Result<()> {
        self.0 = 2;
        Ok(())
    }

    async fn finish(self) -> Result<(), String> {
        std::future::ready(Ok(())).await
    }
}

/// An owner.
#[derive(Debug, GracefulShutdown)]
#[shutdown(timeout = self.grace, at_most = "60s", strict, name = "server")]
pub struct Server<'a, T: Component + Debug, const N: usize> {
    /// A component.
    #[shutdown(priority = 0, required)]
    pub inner: T,
    /// Deprecated.
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

/// A part.
#[derive(Debug, GracefulShutdown)]
#[shutdown(part, timeout = "5s")]
pub struct Part(#[shutdown] Leaf, #[shutdown(with = Leaf::close)] Leaf, u8);

/// One of two.
#[derive(Debug, GracefulShutdown)]
pub enum Either {
    /// Alive.
    Live {
        /// The value.
        #[shutdown]
        leaf: Leaf,
        /// How long.
        grace: Duration,
    },
    /// Gone.
    Gone,
}

fn main() {
    let _: Option<Server<'_, Leaf, 1>> = None;
    let _: (Part, Either) = (Part(Leaf(0), Leaf(0), 0), Either::Live { leaf: Leaf(0), grace: Duration::ZERO });
    let _: Either = Either::Gone;
}
