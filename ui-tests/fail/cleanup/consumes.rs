//! A cleanup function that consumes the field's value needs the key `take`.

use lifecycle_runtime::{GracefulShutdown, ShutdownState};

struct Db;

impl Db {
    async fn consume(self) {}
}

fn kill(_: Db) {}

#[derive(GracefulShutdown)]
struct Server {
    #[shutdown(with = Db::consume)]
    plain: Db,
    #[shutdown(with = Db::consume)]
    option: Option<Db>,
    #[shutdown(with = |_| (), abort = kill)]
    abort: Db,
    #[shutdown(state)]
    state: ShutdownState,
}

fn main() {}
