//! A member of a group: one of several servers that answer the same requests.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use lifecycle_proxy_overload::breaker::{Breaker, Settings};
use tracing::{info, warn};

use crate::config::Upstream;
use crate::upstream::idle::IdleConnections;

/// An HTTP server of a group, with the state that the proxy keeps about it.
#[derive(Debug)]
pub struct Member {
    /// The server's address.
    pub upstream: Upstream,
    /// The breaker, which stops requests to the server after repeated failures.
    pub breaker: Breaker,
    /// The server's idle connections, which wait for a request.
    pub idle: Arc<IdleConnections>,
    /// Whether the last health check of the server succeeded.
    healthy: AtomicBool,
}

impl Member {
    /// Creates a member. It is considered healthy until a health check fails.
    #[must_use]
    pub fn new(upstream: &Upstream, settings: Settings) -> Self {
        Self {
            upstream: upstream.clone(),
            breaker: Breaker::new(settings),
            idle: Arc::default(),
            healthy: AtomicBool::new(true),
        }
    }

    /// Returns whether the last health check of the server succeeded.
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
