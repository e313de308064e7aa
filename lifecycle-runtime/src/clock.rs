//! The one clock of the library.

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
    // Wait until the real clock has moved: a running tokio clock then has moved too.
    while Instant::now() == real {
        std::hint::spin_loop();
    }
    now() == before
}

#[cfg(not(feature = "rt"))]
pub(crate) fn now() -> Instant {
    Instant::now()
}
