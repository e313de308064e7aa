//! What the tests share: steps that are held and released, captured logs, child processes, a state that shows whether
//! it is whole.

mod counted;
#[cfg(target_os = "linux")]
mod family;
mod logs;
mod probe;
mod process;
mod trace;

pub use counted::Counted;
#[cfg(target_os = "linux")]
pub use family::{Family, eventually};
pub use logs::{Event, Logs};
pub use probe::{Hold, Probe};
pub use process::{Ended, Process};
pub use trace::Trace;

use std::time::Duration;

/// `n` seconds.
pub const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// `n` milliseconds.
pub const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}
