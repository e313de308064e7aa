//! In a variant only its fields have names.

use lifecycle_runtime::GracefulShutdown;
use tokio_util::sync::CancellationToken;

#[derive(GracefulShutdown)]
enum Either {
    A {
        #[shutdown(timeout = self.limit())]
        token: CancellationToken,
    },
    B(#[shutdown(timeout = self.limit)] CancellationToken),
}

fn main() {}
