//! `tonic`: a gRPC server in a task.
//!
//! - **Cleanup**: `serve_with_incoming_shutdown` (or `serve_with_shutdown`) with a token, cancel the token, await the task.
//! - **Lost without it**: the answers to calls in flight.
//! - **Repeated**: yes: the token stays cancelled, and the task has ended.
//! - **Waits for**: every call in flight. An endless response stream holds the server for ever, so end it from the same token.
//! - **Order**: first, before everything that handlers use.

use std::net::SocketAddr;
use std::time::Duration;

use lifecycle_runtime::{GracefulShutdown, ShutdownState};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Server as Tonic};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::server::HealthReporter;

use crate::steps::{assert_clean, assert_timed_out, in_a_process};

#[derive(GracefulShutdown)]
struct Server {
    #[shutdown(priority = 0)]
    stop: CancellationToken,
    #[shutdown(priority = 1, timeout = "5s")]
    serve: JoinHandle<Result<(), tonic::transport::Error>>,
    #[shutdown(state)]
    state: ShutdownState,
}

async fn server() -> (Server, HealthReporter, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let (reporter, service) = tonic_health::server::health_reporter();
    reporter
        .set_service_status("shop", tonic_health::ServingStatus::Serving)
        .await;
    let serve = Tonic::builder()
        .add_service(service)
        .serve_with_incoming_shutdown(
            TcpListenerStream::new(listener),
            stop.clone().cancelled_owned(),
        );
    let serve = tokio::spawn(serve);
    let state = ShutdownState::new();
    (Server { stop, serve, state }, reporter, address)
}

async fn client(address: SocketAddr) -> HealthClient<Channel> {
    let channel = Channel::from_shared(format!("http://{address}")).unwrap();
    HealthClient::new(channel.connect().await.unwrap())
}

fn shop() -> HealthCheckRequest {
    HealthCheckRequest {
        service: "shop".into(),
    }
}

#[tokio::test]
async fn the_server_ends_when_its_streams_end() {
    let (mut server, reporter, address) = server().await;
    let mut stream = client(address)
        .await
        .watch(shop())
        .await
        .unwrap()
        .into_inner();
    assert!(stream.message().await.unwrap().is_some());
    let stop = server.stop.clone();
    let (report, ()) = tokio::join!(async { server.shutdown().await }, async {
        stop.cancelled().await;
        reporter
            .set_service_status("shop", tonic_health::ServingStatus::NotServing)
            .await;
        // The call was in flight when the token was cancelled, so the server still sends its message.
        assert!(stream.message().await.unwrap().is_some());
        drop(stream);
    });
    assert_clean(&report);
}

#[tokio::test]
async fn an_endless_stream_holds_the_server() {
    let (mut server, _reporter, address) = server().await;
    let mut stream = client(address)
        .await
        .watch(shop())
        .await
        .unwrap()
        .into_inner();
    assert!(stream.message().await.unwrap().is_some());
    let report = server.shutdown().within(Duration::from_millis(300)).await;
    assert_timed_out(&report, "serve");
}

#[test]
fn a_drop_alone_cuts_a_call_in_flight() {
    let process = Runtime::new().unwrap();
    let (server, _reporter, address) = process.block_on(server());
    in_a_process(async {
        let mut client = client(address).await;
        let mut stream = client.watch(shop()).await.unwrap().into_inner();
        assert!(stream.message().await.unwrap().is_some());
        drop(server);
        process.shutdown_background();
        assert!(stream.message().await.is_err());
    });
}
