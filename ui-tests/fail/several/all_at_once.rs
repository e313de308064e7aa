//! The compiler reports every mistake in a type once, and code that uses the type causes no other errors.

use lifecycle_runtime::{Component, GracefulShutdown, ShutdownState};
use tokio_util::sync::CancellationToken;

#[derive(GracefulShutdown)]
#[shutdown(timeout = "0s", prt)]
struct Server<T> {
    #[shutdown(priority = "1", wiht = close)]
    a: T,
    #[shutdown(after = nobody, required, best_effort)]
    b: CancellationToken,
    #[shutdown(skip, leaf)]
    c: CancellationToken,
    #[shutdown(state)]
    state: ShutdownState,
}

async fn quiet(mut server: Server<u8>) {
    let report = server.shutdown().await;
    let _ = (report.is_clean(), Server::<u8>::PLAN.budget(), server.plan());
}

fn main() {}
