//! The budget depends on `N`, so it is known only where a `Server<9>` is used, which is too late for `cargo check`.

use std::time::Duration;

use lifecycle_runtime::{GracefulShutdown, ShutdownState};

fn close(_: &mut u8) {}

#[derive(GracefulShutdown)]
#[shutdown(timeout = "10s")]
pub struct Server<const N: u64> {
    #[shutdown(timeout = const { Duration::from_secs(N) }, with = close)]
    inner: u8,
    #[shutdown(timeout = "2s", with = close)]
    pool: u8,
    #[shutdown(state)]
    state: ShutdownState,
}

pub fn stop(server: &mut Server<9>) -> impl Future + use<'_> {
    let mut shutdown = Box::pin(server.shutdown());
    std::future::poll_fn(move |cx| shutdown.as_mut().poll(cx).map(drop))
}

pub fn stop_now(server: &mut Server<9>) {
    let mut stopped = std::pin::pin!(stop(server));
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    let _ = stopped.as_mut().poll(&mut cx);
}
