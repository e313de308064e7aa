//! If a path has more steps than an error message can name, the message still says what to do.

use lifecycle_runtime::{GracefulShutdown, ShutdownState};

macro_rules! server {
    ($($size:literal)*) => {
        #[derive(GracefulShutdown)]
        struct Server(
            $(#[shutdown(with = close)] [u8; $size],)*
            #[shutdown(state)] ShutdownState,
        );
    };
}

fn close(_: &mut [u8; 1]) {}

server! {
    1 1 1 1 1 1 1 1  1 1 1 1 1 1 1 1  1 1 1 1 1 1 1 1  1 1 1 1 1 1 1 1
    1 1 1 1 1 1 1 1  1 1 1 1 1 1 1 1  1 1 1 1 1 1 1 1  1 1 1 1 1 1 1 1
    1 1 1 1 1 1 1 1  1 1 1 1 1 1 1 1  1 1 1 1 1 1 1 1  1 1 1 1 1 1 1 1
    1 1 1 1 1 1 1 1  1 1 1 1 1 1 1 1  1 1 1 1 1 1 1 1  1 1 1 1 1 1 1 1
}

fn main() {}
