//! A closure that consumes the field's value without the key `take` gets the compiler's own error.

use lifecycle_runtime::{GracefulShutdown, ShutdownState};

struct Db;

impl Db {
    async fn consume(self) {}
}

#[derive(GracefulShutdown)]
struct Server {
    #[shutdown(with = |db| db.consume())]
    db: Db,
    #[shutdown(state)]
    state: ShutdownState,
}

fn main() {}
