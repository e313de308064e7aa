//! A component that follows a test's script.

use std::future::pending;
use std::time::Duration;

use crate::{BoxError, Component, Context};

/// A component that follows a test's script, and counts the calls of its methods.
///
/// ```
/// use lifecycle_runtime::testing::{Act, Scripted};
/// use lifecycle_runtime::{GracefulShutdown, ShutdownState};
///
/// #[derive(GracefulShutdown)]
/// #[shutdown(strict)]
/// struct Server {
///     #[shutdown]
///     pool: Scripted,
///     #[shutdown(state)]
///     state: ShutdownState,
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let mut server = Server {
///     pool: Scripted::new(Act::Fail("the disk is full")),
///     state: ShutdownState::new(),
/// };
/// let report = server.shutdown().await;
/// assert_eq!(report.step("pool").unwrap().outcome().to_string(), "failed: the disk is full");
/// assert_eq!(server.pool.aborts(), 1);
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Scripted {
    act: Act,
    cleanups: u32,
    aborts: u32,
    releases: u32,
}

/// The behaviour of a [`Scripted`] component when it is cleaned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Act {
    /// The cleanup ends at once.
    Succeed,
    /// The cleanup fails with this text.
    Fail(&'static str),
    /// The cleanup panics with this text.
    Panic(&'static str),
    /// The cleanup never ends.
    Hang,
    /// The cleanup takes this long, on tokio's clock.
    Take(Duration),
    /// The cleanup blocks its thread for this long, in real time.
    Block(Duration),
}

impl Scripted {
    /// Creates a component whose cleanup does `act`.
    pub fn new(act: Act) -> Self {
        Self {
            act,
            cleanups: 0,
            aborts: 0,
            releases: 0,
        }
    }

    /// Returns how often the component's cleanup began.
    pub fn cleanups(&self) -> u32 {
        self.cleanups
    }

    /// Returns how often the component was aborted.
    pub fn aborts(&self) -> u32 {
        self.aborts
    }

    /// Returns how often the component was released.
    pub fn releases(&self) -> u32 {
        self.releases
    }
}

impl Component for Scripted {
    async fn cleanup(&mut self, cx: &Context) -> Result<(), BoxError> {
        self.cleanups += 1;
        let act = self.act;
        cx.waiting_for(move || format!("its script: {act:?}"));
        match act {
            Act::Succeed => {}
            Act::Fail(text) => return Err(text.into()),
            Act::Panic(text) => panic!("{text}"),
            Act::Hang => pending().await,
            Act::Take(time) => tokio::time::sleep(time).await,
            Act::Block(time) => std::thread::sleep(time),
        }
        Ok(())
    }

    fn abort(&mut self) {
        self.aborts += 1;
    }

    fn release(&mut self) {
        self.releases += 1;
    }
}
