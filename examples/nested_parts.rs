//! A server made of parts, each with its own plan: `#[shutdown(part)]`.
//!
//! The plan is a constant, so the compiler can check a deployment's grace period. The plan is
//! displayed as a table, in which the steps of a part are below the part, as in the report.
//!
//! `cargo run -p lifecycle-examples --example nested_parts`

use std::convert::Infallible;
use std::io;
use std::time::Duration;

use lifecycle_runtime::{Component, GracefulShutdown, Report, ShutdownState, run};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

#[derive(GracefulShutdown)]
#[shutdown(strict, timeout = "25s")]
struct Server {
    #[shutdown(priority = 0)]
    ingress: Ingress,
    // The tasks of `housekeeping` never end by themselves, so `with` aborts them. Without `with`
    // the step would first wait for them.
    #[shutdown(priority = 10, timeout = "2s", with = JoinSet::shutdown)]
    housekeeping: JoinSet<()>,
    #[shutdown(priority = 20)]
    storage: Storage,
    #[shutdown(state)]
    state: ShutdownState,
}

/// The part that accepts requests. A part needs no state field and has no `Drop`, since its owner
/// has both.
#[derive(GracefulShutdown)]
#[shutdown(part, strict, timeout = "12s")]
struct Ingress {
    // No field has a priority, so the steps run in declaration order.
    #[shutdown(timeout = "1s")] // The shutdown aborts the task and awaits its end.
    accepting: AbortOnDropHandle<Infallible>,
    #[shutdown] // The step gets the time that `accepting` leaves of the 12 s.
    connections: TaskTracker,
}

/// The part that requests read and write. The part declares no timeout, so its budget is the time
/// of its longest path, 1 s + 3 s.
#[derive(GracefulShutdown)]
#[shutdown(part, strict)]
struct Storage {
    #[shutdown(priority = 0, timeout = "1s", with = Log::sync)]
    log: Log,
    // The steps `by_name` and `by_date` have the same priority, so they run at the same time.
    #[shutdown(priority = 10, timeout = "3s", with = |index| index.save())]
    by_name: Index,
    #[shutdown(priority = 10, timeout = "2s", with = |index| index.save())]
    by_date: Index,
}

/// The grace period in the deployment's manifest.
const GRACE_PERIOD: Duration = Duration::from_secs(30);

// A too short grace period does not compile. The plan does not include the signal's way to the
// process and the end of the runtime, so 2 s are added for them.
const _: () = {
    let budget = Server::PLAN.budget().expect("a struct has a budget");
    assert!(budget.as_secs() + 2 <= GRACE_PERIOD.as_secs());
};

#[tokio::main]
async fn main() -> io::Result<Report> {
    println!("{}\n", Server::PLAN);

    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let report = run(Server::start(listener), async |_server, _stop| {
        // A real server would wait for `stop` here. This example serves one connection and ends.
        let client = TcpStream::connect(address).await?;
        client.readable().await
    })
    .await;
    println!("{report}");
    Ok(report)
}

impl Server {
    fn start(listener: TcpListener) -> Self {
        let mut housekeeping = JoinSet::new();
        housekeeping.spawn(std::future::pending());
        Self {
            ingress: Ingress::start(listener),
            housekeeping,
            storage: Storage {
                log: Log,
                by_name: Index,
                by_date: Index,
            },
            state: ShutdownState::new(),
        }
    }
}

impl Ingress {
    fn start(listener: TcpListener) -> Self {
        let connections = TaskTracker::new();
        Self {
            // The task holds the listener and no connections. So the shutdown may abort it, which
            // closes the listener.
            accepting: AbortOnDropHandle::new(tokio::spawn(accept(listener, connections.clone()))),
            connections,
        }
    }
}

async fn accept(listener: TcpListener, connections: TaskTracker) -> Infallible {
    loop {
        match listener.accept().await {
            Ok((socket, _)) => drop(connections.spawn(greet(socket))),
            // Accepting fails, for example, if too many files are open. Without a pause the loop
            // would be a busy loop.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn greet(socket: TcpStream) {
    // The client may have closed the connection, so the write may fail.
    if socket.writable().await.is_ok() {
        let _ = socket.try_write(b"hello\n");
    }
}

struct Log;

impl Log {
    async fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
}

struct Index;

impl Index {
    async fn save(&mut self) -> io::Result<()> {
        Ok(())
    }
}
