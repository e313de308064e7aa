//! A server made of parts, each with its own plan: `#[shutdown(part)]`.
//!
//! The plan is a constant, so the compiler can check a deployment's grace period. It prints as a
//! table, in which the steps of a part stand below it, as they do in the report.
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
    // These tasks never end by themselves. Without `with` the step would await them first.
    #[shutdown(priority = 10, timeout = "2s", with = JoinSet::shutdown)]
    housekeeping: JoinSet<()>,
    #[shutdown(priority = 20)]
    storage: Storage,
    #[shutdown(state)]
    state: ShutdownState,
}

/// The part that accepts requests. A part has no state and no `Drop`: those of its owner cover it.
#[derive(GracefulShutdown)]
#[shutdown(part, strict, timeout = "12s")]
struct Ingress {
    // No field has a priority, so the steps run in declaration order.
    #[shutdown(timeout = "1s")] // aborted and awaited
    accepting: AbortOnDropHandle<Infallible>,
    #[shutdown] // gets the time that the step above leaves of the 12 s
    connections: TaskTracker,
}

/// The part that requests read and write. It states no timeout, so its budget is its longest path,
/// 1 s + 3 s.
#[derive(GracefulShutdown)]
#[shutdown(part, strict)]
struct Storage {
    #[shutdown(priority = 0, timeout = "1s", with = Log::sync)]
    log: Log,
    // Both have the same priority, so they run at the same time.
    #[shutdown(priority = 10, timeout = "3s", with = |index| index.save())]
    by_name: Index,
    #[shutdown(priority = 10, timeout = "2s", with = |index| index.save())]
    by_date: Index,
}

/// The grace period in the deployment's manifest.
const GRACE_PERIOD: Duration = Duration::from_secs(30);

// Too short a grace period does not compile. 2 s are for the signal's way to the process and for the
// end of the runtime, which are not in the plan.
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
            // The task holds no connections, so it may be aborted, which closes the listener.
            accepting: AbortOnDropHandle::new(tokio::spawn(accept(listener, connections.clone()))),
            connections,
        }
    }
}

async fn accept(listener: TcpListener, connections: TaskTracker) -> Infallible {
    loop {
        match listener.accept().await {
            Ok((socket, _)) => drop(connections.spawn(greet(socket))),
            // For example too many open files. Trying again at once would be a busy loop.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn greet(socket: TcpStream) {
    // The client may have left.
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
