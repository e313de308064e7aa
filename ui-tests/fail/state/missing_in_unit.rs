//! A unit struct that is an owner needs a state field.

use lifecycle_runtime::GracefulShutdown;

#[derive(GracefulShutdown)]
struct Server;

fn main() {}
