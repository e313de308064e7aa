//! Protection of a server and its upstreams against overload: [load shedding](load), which refuses
//! requests, a [circuit breaker](breaker), and a [limit of connections](descriptors) that follows
//! from the limit of open files.
//!
//! ```
//! use std::sync::Arc;
//! use std::time::Duration;
//!
//! use lifecycle_proxy_overload::breaker::{Breaker, Settings};
//! use lifecycle_proxy_overload::load::{Bounds, Counted, Load, Resource, Used, measure};
//! use lifecycle_runtime::{GracefulShutdown, ShutdownState, TaskGroup};
//!
//! #[derive(GracefulShutdown)]
//! struct Server {
//!     #[shutdown]
//!     background: TaskGroup,
//!     #[shutdown(skip)]
//!     load: Arc<Load>,
//!     #[shutdown(state)]
//!     state: ShutdownState,
//! }
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() {
//! let counted = Counted {
//!     runtimes: vec![tokio::runtime::Handle::current()],
//!     connections: Box::new(|| Used { active: 7, peak: 9 }),
//!     sessions: Box::new(Used::default),
//! };
//! let mut bounds = [Bounds::NONE; Resource::ALL.len()];
//! bounds[Resource::Connections as usize] = Bounds { soft: 5, hard: 7 };
//! let load = Arc::new(Load::new(bounds, Box::new(move || measure(&counted))));
//! let background = TaskGroup::new();
//! let watching = background.spawn_until_stop("load", load.clone().watch());
//! assert!(watching.is_ok(), "no shutdown has begun");
//! let mut server = Server { background, load, state: ShutdownState::new() };
//! tokio::time::sleep(Duration::from_secs(1)).await;
//! assert!(!server.load.admits(), "7 connections are too many");
//!
//! let upstream = Breaker::new(Settings { failures: 1, open: Duration::from_secs(2) });
//! upstream.admit().expect("it is closed").failed();
//! assert!(upstream.admit().is_none());
//! tokio::time::sleep(Duration::from_secs(2)).await;
//! assert!(upstream.admit().is_some(), "a trial");
//! assert!(server.shutdown().await.is_clean());
//! # }
//! ```

#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod breaker;
pub mod descriptors;
pub mod load;
