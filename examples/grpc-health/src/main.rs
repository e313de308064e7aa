//! A gRPC server: tonic's routes in an [`HttpServer`], with a health service that shows the server's [`Readiness`].
//!
//! Clients that watch the server's health get NOT_SERVING when the lame duck begins, while the server still answers
//! calls. After the lame duck the server ends the streams of these clients, and closes the connections with GOAWAY.
//!
//! The example ends by itself: a client watches the health, the shutdown begins, and the client sees every change. Run
//! it with `cargo run` in this directory.

use std::net::SocketAddr;
use std::time::Duration;

use lifecycle_http::HttpServer;
use lifecycle_runtime::{
    BoxError, GracefulShutdown, Readiness, ReadyState, Reason, Report, Runner, ShutdownHandle,
    ShutdownState, TaskGroup,
};
use tonic::service::Routes;
use tonic::transport::{Channel, Endpoint};
use tonic_health::ServingStatus;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::server::HealthReporter;

#[derive(GracefulShutdown)]
#[shutdown(strict, timeout = "25s")]
struct Server {
    /// The task that updates the health. It ends first, and so ends the streams of the clients that watch the health.
    #[shutdown(priority = 0, timeout = "1s")]
    health: TaskGroup,
    #[shutdown(priority = 10, timeout = "20s")]
    http: HttpServer,
    #[shutdown(state)]
    state: ShutdownState,
}

#[tokio::main]
async fn main() -> Result<Report, BoxError> {
    let readiness = Readiness::new();
    let (mut reporter, service) = tonic_health::server::health_reporter();
    let health = TaskGroup::new();
    let followed = readiness.clone();
    health.spawn_with("health", async move |stop| {
        let _ = stop.run_until_cancelled(follow(&followed, &reporter)).await;
        // Removing the service's status ends the streams of the clients that watch it.
        reporter.clear_service_status("").await;
    })?;
    let server = Server {
        http: HttpServer::bind("127.0.0.1:0")
            .await?
            .serve(Routes::new(service)),
        health,
        state: ShutdownState::new(),
    };
    let address = server.http.addresses()[0];
    readiness.set_ready();

    let handle = ShutdownHandle::new();
    let client = tokio::spawn(watch(address, handle.clone()));
    let report = Runner::new(server)
        .handle(&handle)
        .readiness(&readiness)
        .lame_duck(Duration::from_millis(500))
        .run_until_signal()
        .await;
    println!("{report}\n");
    for status in client.await?? {
        println!("the client saw: {status}");
    }
    Ok(report)
}

/// Sets the health of the service "", which stands for the whole server, at each change of `readiness`.
async fn follow(readiness: &Readiness, reporter: &HealthReporter) {
    let mut state = readiness.watch();
    loop {
        let status = match *state.borrow_and_update() {
            ReadyState::Ready => ServingStatus::Serving,
            _ => ServingStatus::NotServing,
        };
        reporter.set_service_status("", status).await;
        // `readiness` holds the sender of the changes, so `changed` never fails.
        if state.changed().await.is_err() {
            return;
        }
    }
}

/// Watches the server's health until the stream ends, and returns all that the client sees. Requests the shutdown when
/// the server is healthy.
async fn watch(address: SocketAddr, handle: ShutdownHandle) -> Result<Vec<String>, BoxError> {
    let mut client = connect(address).await?;
    let mut seen = Vec::new();
    let mut statuses = client
        .watch(HealthCheckRequest::default())
        .await?
        .into_inner();
    while let Some(message) = statuses.message().await? {
        let status = message.status().as_str_name();
        if seen.last().is_some_and(|last| last == status) {
            continue;
        }
        seen.push(status.to_owned());
        match status {
            "SERVING" => {
                handle.request(Reason::Requested);
            }
            // During the lame duck, a client that has not yet seen NOT_SERVING still gets its responses.
            "NOT_SERVING" => {
                let mut newcomer = connect(address).await?;
                let answer = newcomer.check(HealthCheckRequest::default()).await?;
                let status = answer.into_inner().status();
                seen.push(format!("a newcomer answered {}", status.as_str_name()));
            }
            _ => {}
        }
    }
    seen.push("the end of the stream".into());
    Ok(seen)
}

async fn connect(address: SocketAddr) -> Result<HealthClient<Channel>, BoxError> {
    let endpoint = Endpoint::try_from(format!("http://{address}"))?;
    Ok(HealthClient::new(endpoint.connect().await?))
}
