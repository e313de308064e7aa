//! The future of a cleanup must be `Send`.

use std::rc::Rc;

use lifecycle_runtime::{GracefulShutdown, ShutdownState};

#[derive(GracefulShutdown)]
struct Server {
    #[shutdown(with = close)]
    pool: u8,
    #[shutdown(state)]
    state: ShutdownState,
}

async fn close(_: &mut u8) {
    let shared = Rc::new(1);
    std::future::ready(()).await;
    drop(shared);
}

fn main() {}
