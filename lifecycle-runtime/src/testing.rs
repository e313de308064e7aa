//! For tests of servers: shutdowns explored, leaks named, un-awaited drops turned into failures.
//!
//! Feature `testing`, for `[dev-dependencies]`.

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
