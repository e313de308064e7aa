//! Every form of `with`, `abort`, `take` and `blocking` compiles.

use std::sync::Arc;
use std::time::Duration;

use lifecycle_runtime::{Context, GracefulShutdown, Report, ShutdownState};
use tokio::task::{JoinError, JoinHandle};

struct Pool;

impl Pool {
    async fn close(&self) {}
    async fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
    async fn finish(self) -> Result<(), String> {
        Ok(())
    }
    fn stop(&self) {}
    fn kill(&mut self) -> std::io::Result<()> {
        Ok(())
    }
    fn sync(&mut self) -> std::io::Result<()> {
        Ok(())
    }
    fn end(self) {}
    async fn shutdown(&self, _limit: Duration) {}
}

async fn join(task: &mut JoinHandle<Result<(), std::io::Error>>) -> Result<Result<(), std::io::Error>, JoinError> {
    task.await
}

fn counted(_: &mut u8) -> usize {
    0
}

async fn reported(_: &mut u8) -> Result<Report, String> {
    Err(String::new())
}

struct Config {
    limit: Duration,
}

#[derive(GracefulShutdown)]
struct Server {
    #[shutdown(with = Pool::close)]
    path: Pool,
    #[shutdown(with = Pool::close)]
    through_arc: Arc<Pool>,
    #[shutdown(with = Pool::flush)]
    through_box: Box<Pool>,
    #[shutdown(with = Pool::close)]
    inside: Option<Arc<Pool>>,
    #[shutdown(with = Pool::finish, take)]
    taken: Option<Pool>,
    #[shutdown(with = |pool| pool.finish(), take)]
    taken_by_closure: Option<Pool>,
    #[shutdown(with = |pool, _cx: &Context| pool.finish(), take)]
    taken_with_context: Option<Pool>,
    #[shutdown(with = |pool| pool.close())]
    closure: Pool,
    #[shutdown(with = |pool| pool.stop())]
    synchronous: Pool,
    #[shutdown(with = |pool, cx| pool.shutdown(cx.remaining()))]
    with_context: Arc<Pool>,
    #[shutdown(with = |pool| pool.shutdown(self.config.limit))]
    mentions: Option<Pool>,
    #[shutdown(with = async |pool| { pool.flush().await?; Ok::<_, std::io::Error>(()) })]
    async_closure: Pool,
    #[shutdown(with = |pool| async move { pool.flush().await })]
    async_block: Pool,
    #[shutdown(with = Pool::close, abort = Pool::stop)]
    aborted: Arc<Pool>,
    #[shutdown(with = Pool::close, abort = |pool| { let _ = self.config.limit; pool.kill() })]
    aborted_by_closure: Option<Pool>,
    #[shutdown(with = Pool::sync, blocking)]
    blocking: Option<Pool>,
    #[shutdown(with = |pool| pool.sync(), blocking)]
    blocking_closure: Option<Pool>,
    #[shutdown(with = |pool| pool.stop(), blocking)]
    blocking_shared: Arc<Pool>,
    #[shutdown(with = Pool::end, take, blocking)]
    blocking_taken: Option<Pool>,
    #[shutdown(with = join)]
    nested: JoinHandle<Result<(), std::io::Error>>,
    #[shutdown(with = |number| { counted(number); })]
    ignored: u8,
    #[shutdown(with = reported)]
    reported: u8,
    #[shutdown(with = Self::own)]
    own: u8,
    config: Config,
    #[shutdown(state)]
    state: ShutdownState,
}

impl Server {
    fn own(_: &mut u8) {}
}

fn main() {}
