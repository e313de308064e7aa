//! A server whose cleanup is declared on its fields: cancel the token, await the requests in
//! flight, and flush the journal to which the requests wrote.
//!
//! `cargo run -p lifecycle-examples --example quickstart`

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use lifecycle_runtime::{GracefulShutdown, Report, ShutdownState, run};
use tokio::io::AsyncWriteExt;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

#[derive(GracefulShutdown)]
#[shutdown(strict, timeout = "25s")]
struct Server {
    #[shutdown(priority = 0)] // Tells every task of the shutdown.
    token: CancellationToken,
    // Drains the requests, in the time that `journal` leaves of the 25 s.
    #[shutdown(priority = 10, best_effort)]
    requests: TaskTracker,
    #[shutdown(after = requests, timeout = "3s", with = Journal::flush)]
    journal: Arc<Journal>,
    #[shutdown(state)]
    state: ShutdownState,
}

impl Server {
    fn new() -> Self {
        Self {
            token: CancellationToken::new(),
            requests: TaskTracker::new(),
            journal: Arc::default(),
            state: ShutdownState::new(),
        }
    }

    /// Handles a request in a task. The task holds clones of the server's parts, and dropping a
    /// clone shuts nothing down.
    fn accept(&self, request: &'static str) {
        let (token, journal) = (self.token.clone(), Arc::clone(&self.journal));
        self.requests.spawn(async move {
            journal.write(format!("{request}: begun"));
            // This wait stands for a request that ends after the shutdown has begun.
            token.cancelled().await;
            journal.write(format!("{request}: done"));
        });
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Report {
    // Ctrl-C and SIGTERM begin the shutdown, and so does the end of this closure. A server that
    // serves for ever looks at `stop` between two requests.
    let report = run(Server::new(), async |server, stop| {
        for request in ["GET /one", "GET /two"] {
            if stop.is_cancelled() {
                break;
            }
            server.accept(request);
        }
    })
    .await;
    println!("{report}");
    report // exit code 0 if it is clean; otherwise 1, and what went wrong on stderr
}

#[derive(Default)]
struct Journal {
    lines: Mutex<Vec<String>>,
}

impl Journal {
    fn write(&self, line: String) {
        self.lines
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(line);
    }

    async fn flush(&self) -> io::Result<()> {
        let lines = self
            .lines
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let mut disk = tokio::io::stdout();
        for line in lines {
            disk.write_all(format!("{line}\n").as_bytes()).await?;
        }
        disk.flush().await
    }
}
