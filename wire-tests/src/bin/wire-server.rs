//! `HttpServer` in a process of its own, on the listening socket that is its standard input.

use std::alloc::System;
use std::num::NonZeroUsize;
use std::os::fd::AsFd;

use axum::routing::get;
use cap::Cap;
use lifecycle_http::{HttpServer, Listener};
use lifecycle_runtime::{BoxError, GracefulShutdown, Report, ShutdownState, run_until_signal};
use lifecycle_wire_tests::app::app;

/// How much is allocated: what a process has of the kernel says little, since allocators keep what they got.
#[global_allocator]
static HEAP: Cap<System> = Cap::new(System, usize::MAX);

#[derive(GracefulShutdown)]
#[shutdown(timeout = "25s")]
struct Server {
    #[shutdown(priority = 10, timeout = "20s")]
    http: HttpServer,
    #[shutdown(state)]
    state: ShutdownState,
}

#[tokio::main]
async fn main() -> Result<Report, BoxError> {
    let inherited = std::io::stdin().as_fd().try_clone_to_owned()?;
    // The kernel goes on queueing connections for as long as anybody has the socket.
    rustix::stdio::dup2_stdin(std::fs::File::open("/dev/null")?)?;
    let listener = Listener::try_from(std::net::TcpListener::from(inherited))?;
    let most = std::env::var("WIRE_LIMIT")
        .ok()
        .map(|most| most.parse())
        .transpose()?
        .unwrap_or(15_000);
    let most = NonZeroUsize::new(most).ok_or("it is not zero")?;
    let app = app().route("/heap", get(|| async { HEAP.allocated().to_string() }));
    let server = Server {
        http: HttpServer::from_listener(listener)
            .connections(most)
            .serve(app),
        state: ShutdownState::new(),
    };
    println!("ready");
    let report = run_until_signal(server).await;
    println!("{report}");
    Ok(report)
}
