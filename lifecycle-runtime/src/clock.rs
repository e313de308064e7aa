//! The one clock of the library.

use std::time::Instant;

/// Now, on tokio's clock where there is one, so that paused time governs every deadline.
#[cfg(feature = "rt")]
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

#[cfg(not(feature = "rt"))]
pub(crate) fn now() -> Instant {
    Instant::now()
}
