//! A unit struct has no place for one.

use lifecycle_runtime::GracefulShutdown;

#[derive(GracefulShutdown)]
struct Server;

fn main() {}
