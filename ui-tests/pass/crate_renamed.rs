//! The crate `lifecycle_runtime` may have another path, for example if another crate re-exports it.

mod framework {
    pub mod shutdown {
        pub use ::lifecycle_runtime::*;
    }
}

use framework::shutdown::{Component, GracefulShutdown, ShutdownState};

#[derive(GracefulShutdown)]
#[shutdown(crate = framework::shutdown)]
struct Server {
    #[shutdown]
    part: inner::Part,
    #[shutdown(state)]
    state: ShutdownState,
}

mod inner {
    #[derive(super::GracefulShutdown)]
    #[shutdown(part, crate = crate::framework::shutdown)]
    pub struct Part {
        #[shutdown(with = |value| *value += 1)]
        value: u8,
    }
}

fn main() {
    assert_eq!(Server::PLAN.steps()[0].nested().map(|plan| plan.name()), Some("Part"));
}
