//! A union cannot be cleaned up.

use lifecycle_runtime::GracefulShutdown;

#[derive(GracefulShutdown)]
union Either {
    a: u8,
    b: u16,
}

fn main() {}
