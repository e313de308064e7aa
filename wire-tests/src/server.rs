//! The server under test: an `HttpServer` in a plan.

use lifecycle_http::HttpServer;
use lifecycle_runtime::{GracefulShutdown, ShutdownState};

#[derive(GracefulShutdown)]
#[shutdown(timeout = "25s")]
pub struct Server {
    #[shutdown(priority = 10, timeout = "20s")]
    http: HttpServer,
    #[shutdown(state)]
    state: ShutdownState,
}

impl Server {
    pub fn new(http: HttpServer) -> Self {
        Self {
            http,
            state: ShutdownState::new(),
        }
    }
}
