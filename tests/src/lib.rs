//! Helpers that the tests share: steps that a test holds and releases, owners of one field, captured logs, child
//! processes, and a saved state that can tell whether it is whole.

mod counted;
#[cfg(target_os = "linux")]
mod family;
mod logs;
mod owners;
mod probe;
mod process;
mod trace;

pub use counted::Counted;
#[cfg(target_os = "linux")]
pub use family::{Family, eventually};
pub use logs::{Event, Logs, listen_everywhere};
pub use owners::{LeafOwner, LeafPart, Owner, Storage, TimedPart, TimedStorage, context};
pub use probe::{Hold, Probe};
pub use process::{Ended, Process};
pub use trace::Trace;

use std::time::Duration;

/// Returns `n` seconds.
pub const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Returns `n` milliseconds.
pub const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}
