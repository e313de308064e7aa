//! The types of fields may be aliases and long paths.

use std::sync::Arc;

use lifecycle_runtime::GracefulShutdown;
use tokio::task::JoinHandle;

type Maybe = Option<Pool>;
type State = lifecycle_runtime::ShutdownState;
type Tasks = Vec<JoinHandle<()>>;

struct Pool;

impl Pool {
    fn close(&self) {}
}

fn close_maybe(pool: &mut Maybe) {
    if let Some(pool) = pool {
        pool.close();
    }
}

#[derive(GracefulShutdown)]
struct Server {
    #[shutdown(with = close_maybe)]
    alias: Maybe,
    #[shutdown(with = Pool::close)]
    path: std::option::Option<Pool>,
    #[shutdown(with = Pool::close)]
    long: ::core::option::Option<Arc<Pool>>,
    #[shutdown(with = Pool::close)]
    bracketed: (Option<Pool>),
    #[shutdown]
    tasks: Tasks,
    #[shutdown(state)]
    state: State,
}

fn main() {}
