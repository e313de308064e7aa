//! A plan with the largest number of steps compiles.

use lifecycle_runtime::{GracefulShutdown, ShutdownState};

macro_rules! server {
    ($($size:literal)*) => {
        #[derive(GracefulShutdown)]
        #[shutdown(timeout = "256s")]
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
    1 1 1 1 1 1 1 1  1 1 1 1 1 1 1 1  1 1 1 1 1 1 1 1  1 1 1 1 1 1 1 1
    1 1 1 1 1 1 1 1  1 1 1 1 1 1 1 1  1 1 1 1 1 1 1 1  1 1 1 1 1 1 1 1
    1 1 1 1 1 1 1 1  1 1 1 1 1 1 1 1  1 1 1 1 1 1 1 1  1 1 1 1 1 1 1 1
    1 1 1 1 1 1 1 1  1 1 1 1 1 1 1 1  1 1 1 1 1 1 1 1  1 1 1 1 1 1 1 1
}

fn main() {
    let steps = <Server as lifecycle_runtime::Component>::PLAN.steps();
    assert_eq!(steps.len(), 256);
    // The last step waits for the step before it, and for no other.
    assert_eq!(steps[255].after().collect::<Vec<_>>(), [254]);
}
