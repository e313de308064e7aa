//! `quinn`: a QUIC endpoint.
//!
//! - **Cleanup**: `Endpoint::close`, then `wait_idle`, once the requests have ended.
//! - **Lost without it**: the peers' notice: they wait until their idle timeout (30 s by default).
//! - **Repeated**: yes, with no effect.
//! - **Waits for**: the closing of each connection, about three times its probe timeout. `close` drops data that is queued or not acknowledged, so let a request wait for `SendStream::stopped` first.
//! - **Order**: after the requests, which come before everything that they use.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use lifecycle_runtime::{GracefulShutdown, ShutdownState};
use quinn::rustls::RootCertStore;
use quinn::rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use quinn::{
    ClientConfig, Connection, ConnectionError, Endpoint, RecvStream, SendStream, ServerConfig,
    TransportConfig,
};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;

use crate::steps::assert_clean;

#[derive(GracefulShutdown)]
struct Server {
    #[shutdown(priority = 0, timeout = "5s")]
    requests: TaskTracker,
    #[shutdown(priority = 1, timeout = "5s", with = close)]
    endpoint: Endpoint,
    #[shutdown(state)]
    state: ShutdownState,
}

async fn close(endpoint: &mut Endpoint) {
    endpoint.close(0_u32.into(), b"the server stops");
    endpoint.wait_idle().await;
}

fn endpoint() -> (Endpoint, CertificateDer<'static>) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let certificate = made.cert.der().clone();
    let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let config = ServerConfig::with_single_cert(vec![certificate.clone()], key.into()).unwrap();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    (Endpoint::server(config, address).unwrap(), certificate)
}

/// Connects a client and sends a request. The client gives up after a second without a packet from the server.
async fn client(
    server: SocketAddr,
    certificate: CertificateDer<'static>,
) -> (Endpoint, Connection, RecvStream) {
    let mut roots = RootCertStore::empty();
    roots.add(certificate).unwrap();
    let mut config = ClientConfig::with_root_certificates(Arc::new(roots)).unwrap();
    let mut transport = TransportConfig::default();
    transport.max_idle_timeout(Some(Duration::from_secs(1).try_into().unwrap()));
    config.transport_config(Arc::new(transport));
    let mut endpoint = Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    endpoint.set_default_client_config(config);
    let connection = endpoint.connect(server, "localhost").unwrap();
    let connection = connection.await.unwrap();
    let (mut question, answer) = connection.open_bi().await.unwrap();
    question.write_all(b"?").await.unwrap();
    question.finish().unwrap();
    (endpoint, connection, answer)
}

/// Accepts the client's request. Returns its connection and the stream for the answer.
async fn accept(endpoint: &Endpoint) -> (Connection, SendStream) {
    let connection = endpoint.accept().await.unwrap().await.unwrap();
    let (answer, mut question) = connection.accept_bi().await.unwrap();
    question.read_to_end(1).await.unwrap();
    (connection, answer)
}

fn runtime() -> Runtime {
    Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap()
}

#[test]
fn a_request_in_flight_is_answered_and_the_client_learns_of_the_close() {
    let clients = runtime();
    let servers = runtime();
    let _inside = servers.enter();
    let (endpoint, certificate) = endpoint();
    let client = clients.spawn(client(endpoint.local_addr().unwrap(), certificate));
    let (_connection, mut answer) = servers.block_on(accept(&endpoint));
    let (let_go, free) = oneshot::channel::<()>();
    let requests = TaskTracker::new();
    requests.spawn(async move {
        free.await.unwrap();
        answer.write_all(b"the answer").await.unwrap();
        answer.finish().unwrap();
        answer.stopped().await.unwrap();
    });
    let mut server = Server {
        requests,
        endpoint,
        state: ShutdownState::new(),
    };
    let asked = clients.spawn(async move {
        let (_endpoint, connection, mut answer) = client.await.unwrap();
        let text = answer.read_to_end(100).await;
        (text, connection.closed().await)
    });
    let_go.send(()).unwrap();
    assert_clean(&servers.block_on(async { server.shutdown().await }));
    let (text, end) = clients.block_on(asked).unwrap();
    assert_eq!(text.unwrap(), b"the answer");
    assert!(
        matches!(end, ConnectionError::ApplicationClosed(_)),
        "{end}"
    );
}

#[test]
fn an_endpoint_closed_before_its_requests_loses_the_response() {
    let clients = runtime();
    let servers = runtime();
    let _inside = servers.enter();
    let (mut endpoint, certificate) = endpoint();
    let client = clients.spawn(client(endpoint.local_addr().unwrap(), certificate));
    let (_connection, _answer) = servers.block_on(accept(&endpoint));
    let (_endpoint, _connection, mut answer) = clients.block_on(client).unwrap();
    servers.block_on(close(&mut endpoint));
    assert!(clients.block_on(answer.read_to_end(100)).is_err());
}

#[test]
fn after_a_drop_alone_the_client_waits_for_its_idle_timeout() {
    let clients = runtime();
    // The server runs on this runtime. After the server's drop the test does not poll the runtime any more, as in a
    // process that ends.
    let process = Builder::new_current_thread().enable_all().build().unwrap();
    let inside = process.enter();
    let (endpoint, certificate) = endpoint();
    let client = clients.spawn(client(endpoint.local_addr().unwrap(), certificate));
    let accepted = process.block_on(accept(&endpoint));
    let (_endpoint, connection, _answer) = clients.block_on(client).unwrap();
    drop((accepted, endpoint));
    drop(inside);
    process.shutdown_background();
    let end = clients.block_on(connection.closed());
    assert!(matches!(end, ConnectionError::TimedOut), "{end}");
}
