//! A public type may have fields of private types.
#![deny(warnings)]

pub mod api {
    use lifecycle_runtime::{BoxError, Component, Context, GracefulShutdown, ShutdownState};

    struct Hidden;

    impl Component for Hidden {
        async fn cleanup(&mut self, _: &Context) -> Result<(), BoxError> {
            Ok(())
        }
    }

    struct Wrapper<T>(T);

    impl<T: Send> Component for Wrapper<T> {
        async fn cleanup(&mut self, _: &Context) -> Result<(), BoxError> {
            let _ = &mut self.0;
            Ok(())
        }
    }

    struct Config;

    #[derive(GracefulShutdown, Default)]
    pub struct Server {
        #[shutdown]
        hidden: Option<inner::Deep>,
        config: Option<Config>,
        #[shutdown(state)]
        state: ShutdownState,
    }

    #[derive(GracefulShutdown)]
    #[shutdown(part)]
    pub struct Part<T> {
        #[shutdown]
        wrapper: Wrapper<T>,
        #[shutdown]
        hidden: Hidden,
    }

    impl<T> Part<T> {
        pub fn new(value: T) -> Self {
            Self { wrapper: Wrapper(value), hidden: Hidden }
        }
    }

    mod inner {
        #[derive(lifecycle_runtime::GracefulShutdown)]
        #[shutdown(part)]
        pub(super) struct Deep;
    }
}

fn main() {
    drop(api::Part::new(1));
    let mut server = api::Server::default();
    lifecycle_runtime::Component::release(&mut server);
}
