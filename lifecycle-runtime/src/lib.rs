//! Declared, ordered, bounded async shutdown for tokio servers.
//!
//! A server struct declares on its fields how each of them is cleaned up: in which order, within what
//! time, and how. `#[derive(GracefulShutdown)]` turns that into one awaited shutdown that runs every
//! step, survives those that fail, panic or hang, and returns a [`Report`] that names them.
//!
#![cfg_attr(feature = "derive", doc = "```no_run")]
#![cfg_attr(not(feature = "derive"), doc = "```ignore")]
//! use lifecycle_runtime::{BoxError, GracefulShutdown, Report, ShutdownState, run};
//! use std::sync::Arc;
//! use tokio::net::TcpListener;
//! use tokio_util::task::TaskTracker;
//!
//! struct Cache;
//! impl Cache {
//!     async fn flush(&self) -> std::io::Result<()> {
//!         Ok(())
//!     }
//! }
//!
//! #[derive(GracefulShutdown)]
//! #[shutdown(strict, timeout = "25s")]
//! struct Server {
//!     #[shutdown(priority = 10, best_effort)] // drain: may use the time that the later steps leave
//!     requests: TaskTracker,
//!     #[shutdown(priority = 20, timeout = "3s", with = Cache::flush)]
//!     cache: Arc<Cache>,
//!     #[shutdown(state)]
//!     state: ShutdownState,
//! }
//!
//! #[tokio::main]
//! async fn main() -> Report {
//!     let server = Server {
//!         requests: TaskTracker::new(),
//!         cache: Arc::new(Cache),
//!         state: ShutdownState::new(),
//!     };
//!     // SIGTERM or Ctrl-C fires `stop`; main is awaited, then the plan runs. The report becomes the exit code.
//!     run(server, async |server, stop| {
//!         let listener = TcpListener::bind("127.0.0.1:8080").await?;
//!         loop {
//!             tokio::select! {
//!                 accepted = listener.accept() => {
//!                     let (socket, _) = accepted?;
//!                     server.requests.spawn(async move { drop(socket) });
//!                 }
//!                 () = stop.cancelled() => return Ok::<_, BoxError>(()),
//!             }
//!         }
//!     })
//!     .await
//! }
//! ```
//!
//! A whole server in one file is the example `reverse_proxy`: it accepts, forwards, records, and
//! stops in order.
//!
#![cfg_attr(feature = "derive", doc = include_str!("tour.md"))]
//!
//! # What it does not do
//!
//! A `Drop` cannot await, so nothing is flushed there: an owner that is dropped without an awaited
//! shutdown logs one event that names the fields left uncleaned, and frees what it alone owns.
//!
//! # Features
//!
//! | feature | default | what it adds |
//! |---|---|---|
//! | `derive` | yes | `#[derive(GracefulShutdown)]` and the guide; brings `rt` |
//! | `rt` | yes | the engine, the runner, components of std, tokio and tokio-util |
//! | `serde` | no | `Serialize` for [`Report`] and what it holds |
//! | `state-file` | no | `StateFile`: state saved atomically, periodically and at shutdown |
//! | `tower` | no | `ShutdownLayer`: a tower layer that refuses requests while the server drains |
//! | `tower-h2` | no | `tower`, and refusals reset HTTP/2 streams, so that clients retry by themselves |
//! | `testing` | no | `testing`: explored shutdowns, leak checks, un-awaited drops as failures |
//!
//! With `default-features = false` the crate contains [`Component`], [`Context`], [`Plan`], [`Report`] and
//! their errors, and has no dependencies. That is enough for a library to make its client a component.

#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]
#![warn(missing_docs, missing_debug_implementations)]

mod clock;
mod component;
mod context;
mod plan;
mod reason;
mod report;
mod text;

#[cfg(feature = "rt")]
mod components;
#[cfg(feature = "rt")]
mod connections;
#[cfg(feature = "rt")]
mod derived;
#[cfg(feature = "rt")]
mod engine;
#[cfg(feature = "rt")]
mod foreign;
#[cfg(feature = "rt")]
mod gate;
#[cfg(feature = "rt")]
mod handle;
#[cfg(feature = "rt")]
mod log;
#[cfg(feature = "rt")]
mod readiness;
#[cfg(feature = "rt")]
mod runner;
#[cfg(feature = "rt")]
mod state;
#[cfg(feature = "state-file")]
mod state_file;
#[cfg(feature = "rt")]
mod task_outcome;
#[cfg(feature = "rt")]
mod tasks;
#[cfg(feature = "tower")]
mod tower;
#[cfg(feature = "rt")]
mod tracked;
#[cfg(feature = "rt")]
mod unawaited;
#[cfg(feature = "rt")]
mod workers;

// The module is only text, so it is built only for rustdoc. Its examples need other crates; the workspace's crate
// `guide` runs them.
#[cfg(all(doc, not(doctest), feature = "derive"))]
pub mod guide;
#[cfg(feature = "testing")]
pub mod testing;

#[cfg(feature = "rt")]
#[doc(hidden)]
pub mod __private;

pub use component::{BoxError, Component, DynComponent, MustClean};
pub use context::Context;
pub use plan::{Plan, PlanStep, ResolvedPlan, ResolvedStep};
pub use reason::{Force, Reason, Signal};
pub use report::{Outcome, Report, ShutdownError, Step, TimedOut};

#[cfg(feature = "rt")]
pub use component::GracefulShutdown;
#[cfg(feature = "rt")]
pub use components::{Components, Id};
#[cfg(feature = "rt")]
pub use connections::{
    Acceptor, Admission, Busy, CloseReason, Connection, ConnectionStats, Connections, Peer, Refused,
};
#[cfg(feature = "rt")]
pub use gate::{Closed, Gate, LabelledPass, Pass};
#[cfg(feature = "rt")]
pub use handle::{Progress, ShutdownHandle, StepProgress};
#[cfg(feature = "derive")]
#[doc = include_str!("derive.md")]
#[doc(inline)]
pub use lifecycle_macros::GracefulShutdown;
#[cfg(feature = "rt")]
pub use readiness::{Readiness, ReadyState};
#[cfg(feature = "rt")]
pub use runner::{
    ExitCodes, FailedStart, Grace, InvalidGrace, Runner, SecondSignal, Stop, run, run_until_signal,
};
#[cfg(feature = "rt")]
pub use state::{Shutdown, ShutdownState};
#[cfg(feature = "state-file")]
pub use state_file::{Saved, StateFile};
#[cfg(feature = "rt")]
pub use task_outcome::{TaskOutcome, TaskOutput};
#[cfg(feature = "rt")]
pub use tasks::{Restart, Spawner, Supervised, TaskGroup, TaskState, TaskStop};
#[cfg(feature = "tower")]
pub use tower::{ShutdownBody, ShutdownFuture, ShutdownLayer, ShutdownService};
#[cfg(feature = "rt")]
pub use workers::Workers;
