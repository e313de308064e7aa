//! The clock that all code of the library uses.

use std::time::Instant;

/// Returns the current time on tokio's clock, so that paused time governs every deadline.
#[cfg(feature = "rt")]
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Returns whether tokio's clock stands still, as in tests with paused time.
#[cfg(feature = "rt")]
pub(crate) fn is_paused() -> bool {
    let (before, real) = (now(), Instant::now());
    // This waits until the real clock has moved: if tokio's clock is running, it has moved by then too.
    while Instant::now() == real {
        std::hint::spin_loop();
    }
    now() == before
}

#[cfg(not(feature = "rt"))]
pub(crate) fn now() -> Instant {
    Instant::now()
}
