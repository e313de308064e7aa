//! Tools for testing a server's shutdown: exploring it, naming leaks, and failing on un-awaited drops.
//!
//! Needs the feature `testing`, for `[dev-dependencies]`.

mod drops;
mod explore;
mod faults;
mod interrupt;
mod leaks;
mod scripted;

pub use drops::{Drops, UnawaitedDrop, record_drops};
pub use explore::{Explored, explore};
pub use faults::Fault;
pub use interrupt::Interrupt;
pub use leaks::{Leak, LeakCheck};
pub use scripted::{Act, Scripted};

pub(crate) use drops::dropped;
pub(crate) use faults::{abort_panicked, inject};
