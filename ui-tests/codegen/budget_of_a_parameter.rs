//! The budget depends on `T`, so it is known only where a `Server<Slow>` is used, which is too late for `cargo check`.

use lifecycle_runtime::{Component, GracefulShutdown, ShutdownState};

fn close(_: &mut u8) {}

#[derive(GracefulShutdown)]
#[shutdown(timeout = "10s")]
pub struct Server<T: Component> {
    #[shutdown]
    inner: T,
    #[shutdown(timeout = "2s", with = close)]
    pool: u8,
    #[shutdown(state)]
    state: ShutdownState,
}

#[derive(GracefulShutdown)]
#[shutdown(part)]
pub struct Slow {
    #[shutdown(timeout = "9s", with = close)]
    slow: u8,
}

pub fn stop(server: &mut Server<Slow>) -> impl Future + use<'_> {
    let mut shutdown = Box::pin(server.shutdown());
    std::future::poll_fn(move |cx| shutdown.as_mut().poll(cx).map(drop))
}

pub fn stop_now(server: &mut Server<Slow>) {
    let mut stopped = std::pin::pin!(stop(server));
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    let _ = stopped.as_mut().poll(&mut cx);
}
