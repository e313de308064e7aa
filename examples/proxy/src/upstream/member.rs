//! One of several servers that answer the same requests.

use std::sync::atomic::{AtomicBool, Ordering};

use tracing::{info, warn};

use crate::config::Upstream;
use crate::protection::breaker::{Breaker, Settings};

/// An HTTP server, and how it is.
#[derive(Debug)]
pub struct Member {
    /// Where it is.
    pub upstream: Upstream,
    /// Opens when it fails again and again.
    pub breaker: Breaker,
    /// What its health check last said.
    healthy: AtomicBool,
}

impl Member {
    /// A member that is taken to be well.
    #[must_use]
    pub fn new(upstream: &Upstream, settings: Settings) -> Self {
        Self {
            upstream: upstream.clone(),
            breaker: Breaker::new(settings),
            healthy: AtomicBool::new(true),
        }
    }

    /// Whether its health check last went well.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.healthy.load(Ordering::Relaxed)
    }

    /// Enters what a health check said.
    pub fn checked(&self, healthy: bool) {
        let upstream = &self.upstream;
        match (self.healthy.swap(healthy, Ordering::Relaxed), healthy) {
            (true, false) => warn!(%upstream, "the upstream is not healthy"),
            (false, true) => info!(%upstream, "the upstream is healthy again"),
            _ => {}
        }
    }
}
