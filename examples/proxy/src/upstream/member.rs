//! A member of a group: one of several servers that answer the same requests.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use lifecycle_proxy_overload::breaker::{Breaker, Settings};
use tracing::{info, warn};

use crate::config::Upstream;
use crate::upstream::idle::IdleConnections;

/// An HTTP server and its state.
#[derive(Debug)]
pub struct Member {
    /// Its address.
    pub upstream: Upstream,
    /// Opens when it fails again and again.
    pub breaker: Breaker,
    /// Its connections that wait for a request.
    pub idle: Arc<IdleConnections>,
    /// The result of its last health check.
    healthy: AtomicBool,
}

impl Member {
    /// Creates a member that is taken to be healthy.
    #[must_use]
    pub fn new(upstream: &Upstream, settings: Settings) -> Self {
        Self {
            upstream: upstream.clone(),
            breaker: Breaker::new(settings),
            idle: Arc::default(),
            healthy: AtomicBool::new(true),
        }
    }

    /// Returns whether its last health check succeeded.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        self.healthy.load(Ordering::Relaxed)
    }

    /// Records the result of a health check.
    pub fn checked(&self, healthy: bool) {
        let upstream = &self.upstream;
        match (self.healthy.swap(healthy, Ordering::Relaxed), healthy) {
            (true, false) => warn!(%upstream, "the upstream is not healthy"),
            (false, true) => info!(%upstream, "the upstream is healthy again"),
            _ => {}
        }
    }
}
