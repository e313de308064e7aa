//! A step whose type is not a component gives one error, whatever is done with the struct.

use lifecycle_runtime::{GracefulShutdown, ShutdownState};
use tokio_util::sync::CancellationToken;

#[derive(GracefulShutdown)]
struct Server {
    #[shutdown]
    pool: Pool,
    #[shutdown]
    token: CancellationToken,
    #[shutdown(state)]
    state: ShutdownState,
}

struct Pool;

async fn quiet(mut server: Server) {
    let report = server.shutdown().await;
    let _ = (report.is_clean(), server.plan());
}

fn main() {}
