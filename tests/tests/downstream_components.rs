//! The documented types are components in a downstream crate, where coherence and the trait solver see only public items.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use lifecycle_runtime::{
    BoxError, Component, Context, DynComponent, GracefulShutdown, ShutdownState,
};
use tokio::fs::File;
use tokio::process::Child;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

const fn component<T: Component + ?Sized>() {}

/// A shared type, which implements `Component` on `&Pool`.
struct Pool;

impl Component for &Pool {
    async fn cleanup(&mut self, _cx: &Context) -> Result<(), BoxError> {
        Ok(())
    }
}

/// A generic shared type, which implements `Component` on `&Cache<T>`.
struct Cache<T>(T);

impl<T: Sync> Component for &Cache<T> {
    async fn cleanup(&mut self, _cx: &Context) -> Result<(), BoxError> {
        Ok(())
    }
}

const _: () = {
    component::<JoinHandle<()>>();
    component::<JoinHandle<Result<Vec<u8>, BoxError>>>();
    component::<JoinSet<String>>();
    component::<CancellationToken>();
    component::<TaskTracker>();
    component::<Child>();
    component::<File>();

    component::<Option<JoinHandle<()>>>();
    component::<Box<JoinHandle<()>>>();
    component::<Box<dyn DynComponent>>();
    component::<Box<[JoinHandle<()>]>>();
    component::<Vec<Box<dyn DynComponent>>>();
    component::<VecDeque<JoinHandle<()>>>();
    component::<[Option<Child>; 4]>();
    component::<HashMap<String, JoinHandle<()>>>();
    component::<BTreeMap<(u16, char), JoinSet<()>>>();
    component::<(CancellationToken, TaskTracker)>();
    component::<(
        File,
        File,
        File,
        File,
        File,
        File,
        File,
        File,
        File,
        File,
        File,
        Vec<File>,
    )>();

    component::<Arc<Pool>>();
    component::<Option<Arc<Pool>>>();
    component::<Vec<Arc<Cache<u8>>>>();
    component::<Arc<std::sync::Mutex<Vec<JoinHandle<()>>>>>();
    component::<Arc<std::sync::RwLock<Option<Arc<Pool>>>>>();
    component::<Arc<tokio::sync::Mutex<JoinSet<()>>>>();
    component::<Arc<tokio::sync::RwLock<HashMap<String, JoinHandle<()>>>>>();
    // A lock that is not shared in an `Arc` needs no `Default` of the value inside.
    component::<std::sync::Mutex<Child>>();
    component::<tokio::sync::Mutex<JoinHandle<()>>>();
    // Locks may be nested in other locks.
    component::<Arc<std::sync::Mutex<Vec<Arc<tokio::sync::Mutex<Option<JoinHandle<()>>>>>>>>();
};

/// A derived struct with the types of this file as fields.
#[derive(GracefulShutdown)]
struct Server {
    #[shutdown]
    tasks: Arc<std::sync::Mutex<Vec<AbortOnDropHandle<()>>>>,
    #[shutdown]
    pool: Option<Arc<Pool>>,
    #[shutdown]
    plugins: Vec<Box<dyn DynComponent>>,
    #[shutdown]
    named: HashMap<String, JoinHandle<()>>,
    #[shutdown]
    pair: (CancellationToken, TaskTracker),
    #[shutdown(state)]
    state: ShutdownState,
}

#[tokio::test]
async fn a_server_of_such_components_is_shut_down_from_any_thread() {
    let mut server = Server {
        tasks: Arc::default(),
        pool: Some(Arc::new(Pool)),
        plugins: vec![Box::new(tokio::spawn(async {}))],
        named: HashMap::from([("a".into(), tokio::spawn(async {}))]),
        pair: (CancellationToken::new(), TaskTracker::new()),
        state: ShutdownState::new(),
    };
    let tasks = Arc::clone(&server.tasks);
    tasks
        .lock()
        .unwrap()
        .push(AbortOnDropHandle::new(tokio::spawn(std::future::pending())));
    let report = tokio::spawn(async move { server.shutdown().await })
        .await
        .unwrap();
    assert!(report.is_clean(), "{report}");
    for path in [
        "tasks[0]",
        "pool",
        "plugins[0]",
        "named[a]",
        "pair.0",
        "pair.1",
    ] {
        assert!(report.step(path).is_some(), "no {path} in {report}");
    }
    assert!(tasks.lock().unwrap().is_empty());
}
