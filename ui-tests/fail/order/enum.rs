//! Each variant of an enum has its own order of steps, so each is checked alone.

use lifecycle_runtime::GracefulShutdown;
use tokio_util::sync::CancellationToken;

#[derive(GracefulShutdown)]
enum Either {
    One {
        #[shutdown(priority = 1)]
        a: CancellationToken,
        #[shutdown]
        b: CancellationToken,
    },
    Two {
        #[shutdown(after = a)]
        c: CancellationToken,
    },
}

fn main() {}
