//! Tools for testing a server's shutdown: they inject faults into each step, name leaks, and fail on un-awaited drops.
//!
//! The module needs the feature `testing`, which is for `[dev-dependencies]`.

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
