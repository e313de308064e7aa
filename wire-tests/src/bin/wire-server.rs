//! Runs `HttpServer` in its own process, on the listening socket that is its standard input.

use std::alloc::System;
use std::os::fd::AsFd;
use std::str::FromStr;

use axum::routing::get;
use cap::Cap;
use lifecycle_http::{HttpServer, Listener};
use lifecycle_runtime::{BoxError, Report, Runner, Stop};
use lifecycle_wire_tests::app::app;
use lifecycle_wire_tests::server::Server;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The allocator, which counts the bytes that are allocated. The memory of the process would say little, because
/// allocators keep memory that they got from the kernel.
#[global_allocator]
static HEAP: Cap<System> = Cap::new(System, usize::MAX);

#[tokio::main]
async fn main() -> Result<Report, BoxError> {
    if let Some(files) = variable("WIRE_FILES")? {
        let maximum = getrlimit(Resource::Nofile).maximum;
        let current = Some(files);
        setrlimit(Resource::Nofile, Rlimit { current, maximum })?;
    }
    // `Runner::build` registers the signals first, because clients may take all descriptors later.
    let report = Runner::build(start).run_until_signal().await;
    println!("{report}");
    Ok(report)
}

async fn start(_: Stop) -> Result<Server, BoxError> {
    let inherited = std::io::stdin().as_fd().try_clone_to_owned()?;
    // Standard input is replaced, because the kernel queues connections as long as any descriptor of the socket is
    // open.
    rustix::stdio::dup2_stdin(std::fs::File::open("/dev/null")?)?;
    let listener = Listener::try_from(std::net::TcpListener::from(inherited))?;
    let most = match variable("WIRE_LIMIT")? {
        Some(most) => most,
        None => 15_000.try_into()?,
    };
    let app = app().route("/heap", get(async || HEAP.allocated().to_string()));
    let http = HttpServer::from_listener(listener)
        .connections(most)
        .serve(app);
    println!("ready");
    Ok(Server::new(http))
}

fn variable<T: FromStr<Err: Into<BoxError>>>(name: &str) -> Result<Option<T>, BoxError> {
    let value = std::env::var(name).ok();
    value
        .map(|value| value.parse().map_err(Into::into))
        .transpose()
}
