//! A server ends on time although one task is stuck, one task blocks its thread and one task has panicked. The report
//! names the three tasks.
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
    /// A group for blocking calls. A blocking call cannot be aborted, so its step is cut at the deadline. In a separate
    /// group, such calls do not delay the step of the other tasks.
    #[shutdown(timeout = "500ms")]
    imports: TaskGroup,
    /// The journal is written whether the tasks have ended or not.
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
    // This task waits for an answer that never comes, and ignores the shutdown.
    server.tasks.spawn("stuck-upstream", pending::<()>())?;
    server
        .tasks
        .spawn("parser", async { panic!("byte 7 is no digit") })?;
    server.imports.spawn_blocking("csv-import", |_stop| {
        // The call never checks `_stop`, so it does not end at the shutdown.
        thread::sleep(Duration::from_secs(3600));
    })?;
    // While this task yields, `parser` panics. The panic is logged at once, and kept for the report.
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
    // `block_on` has its own runtime, whose drop does not wait for the import. The watchdog ends the process if
    // anything else keeps the process from ending.
    let report = Runner::new(server)
        .watchdog(Duration::from_secs(1))
        .block_on(serve);
    println!("{report}");
    report
}
