//! A server with a task that is stuck, one that blocks its thread and one that panicked ends on time, and
//! its report names all three.
//!
//! `cargo run -p lifecycle-examples --example stuck`: it exits with 1, since the shutdown is not clean.

use std::future::pending;
use std::thread;
use std::time::Duration;

use lifecycle_runtime::{
    BoxError, GracefulShutdown, Report, Runner, ShutdownState, Stop, TaskGroup,
};

#[derive(GracefulShutdown)]
#[shutdown(strict, timeout = "2s")]
struct Server {
    #[shutdown(timeout = "1s")]
    tasks: TaskGroup,
    /// A blocking call cannot be aborted, so its step is cut: those get a group of their own, and the
    /// others are known to have ended.
    #[shutdown(timeout = "500ms")]
    imports: TaskGroup,
    /// Whatever became of the tasks, this is still written.
    #[shutdown(timeout = "100ms", with = Journal::close)]
    journal: Journal,
    #[shutdown(state)]
    state: ShutdownState,
}

struct Journal {
    lines: Vec<&'static str>,
}

impl Journal {
    fn close(&mut self) {
        for line in self.lines.drain(..) {
            println!("journal: {line}");
        }
    }
}

async fn serve(server: &mut Server, _stop: Stop) -> Result<(), BoxError> {
    // It waits for an answer that never comes, and does not listen for the shutdown.
    server.tasks.spawn("stuck-upstream", pending::<()>())?;
    server
        .tasks
        .spawn("parser", async { panic!("byte 7 is no digit") })?;
    server.imports.spawn_blocking("csv-import", |_stop| {
        // It does not ask whether it should stop.
        thread::sleep(Duration::from_secs(3600));
    })?;
    // The panic is told when it happens; the report keeps it.
    tokio::task::yield_now().await;
    server.journal.lines.push("served until the end");
    Ok(())
}

fn main() -> Report {
    let server = Server {
        tasks: TaskGroup::new(),
        imports: TaskGroup::new(),
        journal: Journal { lines: Vec::new() },
        state: ShutdownState::new(),
    };
    // A runtime of its own, whose drop does not wait for the import; the watchdog is for what nobody
    // thought of.
    let report = Runner::new(server)
        .watchdog(Duration::from_secs(1))
        .block_on(serve);
    println!("{report}");
    report
}
