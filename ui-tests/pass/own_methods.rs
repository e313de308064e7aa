//! The user's own methods `shutdown`, `close` and `plan` are not shadowed, and `with` calls the value's own method.

use lifecycle_runtime::{BoxError, Component, Context, GracefulShutdown, ShutdownState};

struct File;

impl File {
    fn cleanup(&mut self) {}
    fn abort(&mut self) {}
    async fn shutdown(&mut self) {}
}

impl Component for File {
    async fn cleanup(&mut self, _: &Context) -> Result<(), BoxError> {
        Ok(())
    }
}

#[derive(GracefulShutdown)]
struct Server {
    #[shutdown(with = |file| file.shutdown())]
    shutdown: File,
    #[shutdown(with = File::cleanup, abort = File::abort)]
    cleanup: Option<File>,
    #[shutdown]
    component: File,
    #[shutdown(state)]
    state: ShutdownState,
}

impl Server {
    fn cleanup(&self) {}
    fn shutdown(self) -> u8 {
        0
    }
}

fn main() {
    let server = || Server { shutdown: File, cleanup: None, component: File, state: ShutdownState::new() };
    server().cleanup();
    assert_eq!(server().shutdown(), 0);
}
