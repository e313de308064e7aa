//! A server made of parts, each with a plan of its own: `#[shutdown(part)]`.
//!
//! The plan is a constant, so a deployment's grace period is checked when this compiles; printed,
//! it is a table. A part's steps stand under it in the plan and in the report.
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
    // Its tasks never end by themselves. Without `with` they would be waited for first.
    #[shutdown(priority = 10, timeout = "2s", with = JoinSet::shutdown)]
    housekeeping: JoinSet<()>,
    #[shutdown(priority = 20)]
    storage: Storage,
    #[shutdown(state)]
    state: ShutdownState,
}

/// Where requests come in. A part has no state and no `Drop` of its own: its owner's cover it.
#[derive(GracefulShutdown)]
#[shutdown(part, strict, timeout = "12s")]
struct Ingress {
    // No field gives a priority: their order is that of the declarations.
    #[shutdown(timeout = "1s")] // aborted and awaited
    accepting: AbortOnDropHandle<Infallible>,
    #[shutdown] // gets what the step above leaves of the 12 s
    connections: TaskTracker,
}

/// What requests read and write. It states no timeout: its budget is its longest path, 1 s + 3 s.
#[derive(GracefulShutdown)]
#[shutdown(part, strict)]
struct Storage {
    #[shutdown(priority = 0, timeout = "1s", with = Log::sync)]
    log: Log,
    // Of equal priority, so both at the same time.
    #[shutdown(priority = 10, timeout = "3s", with = |index| index.save())]
    by_name: Index,
    #[shutdown(priority = 10, timeout = "2s", with = |index| index.save())]
    by_date: Index,
}

/// What the deployment's manifest says.
const GRACE_PERIOD: Duration = Duration::from_secs(30);

// Too short a grace period does not compile. 2 s are for what is not the plan's: the signal's way
// to the process, and the end of the runtime.
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
        // A real server would wait for `stop` here. This one serves one connection and ends.
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
            // It holds no connection itself, so it may be aborted; that closes the listener.
            accepting: AbortOnDropHandle::new(tokio::spawn(accept(listener, connections.clone()))),
            connections,
        }
    }
}

async fn accept(listener: TcpListener, connections: TaskTracker) -> Infallible {
    loop {
        match listener.accept().await {
            Ok((socket, _)) => drop(connections.spawn(greet(socket))),
            // Too many open files, say: trying again at once would only burn the processor.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn greet(socket: TcpStream) {
    // A client that has left does not hear it.
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
