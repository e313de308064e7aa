//! The fields of a packed struct cannot be borrowed, which every step does.

use lifecycle_runtime::{GracefulShutdown, ShutdownState};

#[derive(GracefulShutdown)]
#[repr(C, packed(2))]
struct Server {
    #[shutdown(with = drop)]
    port: u32,
    #[shutdown(state)]
    state: ShutdownState,
}

#[derive(GracefulShutdown)]
#[repr(packed)]
#[shutdown(part)]
struct Part {
    port: u32,
}

fn main() {}
