//! Helpers that several crates of the example proxy need: numbers in a configuration and their
//! bounds, host names, formats of times in files, and a rate limit of log lines.
//!
//! ```
//! use lifecycle_proxy_common::{Seconds, Throttle};
//!
//! let limit: Seconds = serde_json::from_str("5")?;
//! assert_eq!(limit.duration().as_millis(), 5000);
//! let error = serde_json::from_str::<Seconds>("0").unwrap_err().to_string();
//! assert!(error.starts_with("expected a whole number from 1 to 31536000"));
//!
//! let complaints = Throttle::default();
//! assert!(complaints.allows());
//! assert!(!complaints.allows(), "a second line within the same second");
//! # Ok::<_, serde_json::Error>(())
//! ```

#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod bounds;
mod hosts;
mod seconds;
mod throttle;
pub mod timestamp;

pub use hosts::{BadPattern, HostPattern, can_connect_to, is_plain};
pub use seconds::Seconds;
pub use throttle::Throttle;

/// The number of units of a resource that are in use, and its peak.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Used {
    /// The number that is in use now.
    pub active: u64,
    /// The largest number that was in use at the same time.
    pub peak: u64,
}
