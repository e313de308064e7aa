//! Runs what HTTP connections spawn, and keeps hold of it.

use std::future::Future;

use hyper::rt::Executor;
use lifecycle_runtime::{Connection, Spawner};

/// Has a client connection's tasks, one for each stream of HTTP/2, run as parts of
/// it: drained with it, and gone when it is.
#[derive(Clone, Debug)]
pub struct Streams(pub Connection);

/// Has the tasks of upstream connections run in a group.
#[derive(Clone, Debug)]
pub struct Upstreams(pub Spawner);

impl<F: Future<Output: Send> + Send + 'static> Executor<F> for Streams {
    fn execute(&self, task: F) {
        // Boxed: what goes around it would otherwise hold it several times over, 73 kB
        // a stream instead of 6.
        let task = Box::pin(task);
        // Refused when the connection is gone, and so is who waits for the task.
        let _ = self.0.spawn(async { drop(task.await) });
    }
}

impl<F: Future<Output: Send> + Send + 'static> Executor<F> for Upstreams {
    fn execute(&self, task: F) {
        // Refused when the pool is closed, after all who could ask.
        let _ = self.0.spawn("upstream", async { drop(task.await) });
    }
}
