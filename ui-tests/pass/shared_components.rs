//! An impl on `&T` makes `Arc<T>` a component, and containers of components are components.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use lifecycle_runtime::{BoxError, Component, Context, GracefulShutdown, ShutdownState};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

struct Gate;

impl Component for &Gate {
    async fn cleanup(&mut self, _: &Context) -> Result<(), BoxError> {
        Ok(())
    }
}

#[derive(GracefulShutdown)]
struct Server {
    #[shutdown]
    shared: Arc<Gate>,
    #[shutdown]
    optional: Option<Arc<Gate>>,
    #[shutdown]
    list: Vec<Arc<Gate>>,
    #[shutdown]
    map: HashMap<String, Arc<Gate>>,
    #[shutdown]
    pair: (CancellationToken, TaskTracker),
    #[shutdown]
    tasks: Arc<Mutex<Vec<JoinHandle<()>>>>,
    #[shutdown]
    set: Box<JoinSet<u8>>,
    #[shutdown]
    array: [JoinHandle<()>; 2],
    plain: Gate,
    #[shutdown(state)]
    state: ShutdownState,
}

fn main() {}
