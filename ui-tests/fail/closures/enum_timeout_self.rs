//! A timeout in a variant can use the variant's fields, but not all of `self`.

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
