//! A declarative macro may write the struct. Its fragments are in invisible groups, and its `self` has the macro's
//! hygiene.

use std::sync::Arc;
use std::time::Duration;

use lifecycle_runtime::{GracefulShutdown, ShutdownState};

pub struct Pool;

impl Pool {
    async fn close(&self, _limit: Duration) {}
    fn stop(&self) {}
}

macro_rules! server {
    ($vis:vis $name:ident, $field:ident: $ty:ty, $timeout:literal, $limit:expr, $with:expr, $priority:literal) => {
        #[derive(GracefulShutdown)]
        #[shutdown(timeout = $timeout)]
        $vis struct $name {
            #[shutdown(priority = $priority, timeout = $limit, with = $with)]
            $field: $ty,
            #[shutdown(after = $field, timeout = self.config, at_most = "5s", with = |pool| pool.close(self.config))]
            own: $ty,
            #[shutdown(after($field, own), with = Pool::stop)]
            direct: Option<Arc<Pool>>,
            config: Duration,
            #[shutdown(state)]
            state: ShutdownState,
        }
    };
}

mod path {
    pub(super) use super::Pool;
}

server!(pub Plain, pool: Arc<Pool>, "30s", Duration::from_secs(1), |pool| pool.stop(), 10);
server!(Other, r#type: Option<path::Pool>, "1m", const { Duration::from_secs(2) }, Pool::stop, -3);

macro_rules! with_path {
    ($name:ident, $path:path, $ty:ty) => {
        #[derive(GracefulShutdown)]
        #[shutdown(part)]
        struct $name(#[shutdown(with = $path, take)] $ty);
    };
}

with_path!(Dropped, std::mem::drop, Option<u8>);

fn main() {}
