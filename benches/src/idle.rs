//! Measures the size and the allocations of a derived struct that is not shutting down.

use lifecycle_runtime::{GracefulShutdown, ShutdownState};

use crate::alloc::Count;
use crate::derived::{Derived, Ready};
use crate::table::Table;

pub fn run(_rounds: usize) -> Vec<Table> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let (allocated, tasks) = runtime.block_on(async {
        let count = Count::begin();
        let mut server = Derived::new();
        let allocated = count.end();
        tokio::task::yield_now().await;
        let tasks = tokio::runtime::Handle::current()
            .metrics()
            .num_alive_tasks();
        assert!(server.shutdown().await.is_clean());
        (allocated, tasks)
    });
    let mut table = Table::counted("A derived struct before its shutdown", "");
    table.count("tasks", tasks as f64, Some(0.0));
    table.count("allocations", allocated.calls as f64, Some(0.0));
    table.count(
        "bytes of the state",
        size_of::<ShutdownState>() as f64,
        Some(16.0),
    );
    let fields = 8 * size_of::<Ready>() + size_of::<ShutdownState>();
    table.count(
        "bytes beside its fields",
        (size_of::<Derived>() - fields) as f64,
        Some(0.0),
    );
    vec![table]
}
