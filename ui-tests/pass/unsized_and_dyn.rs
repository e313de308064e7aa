//! Fields may hold values behind pointers and values without a known size.

use std::sync::Arc;

use lifecycle_runtime::{DynComponent, GracefulShutdown, ShutdownState};

trait Plugin: Send + Sync {
    fn stop(&self);
    fn end(&mut self) -> Result<(), String>;
}

fn stop_all(plugins: &mut Vec<Box<dyn Plugin>>) {
    for plugin in plugins {
        plugin.stop();
    }
}

#[derive(GracefulShutdown)]
struct Server {
    #[shutdown(with = |plugin| plugin.end())]
    boxed: Box<dyn Plugin>,
    #[shutdown(with = |plugin| plugin.stop())]
    shared: Arc<dyn Plugin>,
    #[shutdown(with = |plugin| plugin.stop())]
    optional: Option<Arc<dyn Plugin + 'static>>,
    #[shutdown(with = stop_all)]
    list: Vec<Box<dyn Plugin>>,
    #[shutdown]
    components: Option<Box<dyn DynComponent>>,
    #[shutdown(state)]
    state: ShutdownState,
}

#[derive(GracefulShutdown)]
#[shutdown(part)]
struct Tail<T: ?Sized + Plugin> {
    #[shutdown(with = |value| { value.fill(0); })]
    numbers: Vec<u8>,
    #[shutdown(with = |value| value.stop())]
    value: T,
}

#[derive(GracefulShutdown)]
#[shutdown(part)]
struct Slice {
    #[shutdown(with = |value| { value.fill(0); })]
    numbers: [u8],
}

fn main() {
    fn component<T: lifecycle_runtime::Component + ?Sized>() {}
    component::<Tail<dyn Plugin>>();
    component::<Slice>();
}
