//! The sockets that a server listens on, and TLS between a socket and HTTP.

mod support;

use lifecycle_http::{HttpServer, Listener};
use support::{Client, GET, Place, serve, serve_tcp};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

#[tokio::test]
async fn a_listener_of_std_may_be_inherited() {
    let inherited = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let site = serve_tcp(HttpServer::from_listener(
        Listener::try_from(inherited).unwrap(),
    ));
    let mut client = site.client().await;
    client.says(GET).await;
    assert!(client.hears().await.ends_with("hello"));
    site.stop().await.unwrap();
}

#[tokio::test]
async fn a_unix_socket_is_served_and_drained() {
    let (listener, place) = support::unix();
    let site = serve(HttpServer::from_listener(listener), place);
    let mut client = site.place.connect().await.unwrap();
    client
        .write_all(b"GET /hold HTTP/1.1\r\nhost: a\r\n\r\n")
        .await
        .unwrap();
    site.reached().await;
    let (stopped, answer) = tokio::join!(site.stop(), async {
        site.told().await;
        site.stage.release.add_permits(1);
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        answer
    });
    stopped.unwrap();
    assert!(answer.ends_with("held"), "{answer}");
}

#[tokio::test]
async fn a_client_in_the_queue_of_a_tcp_socket_is_answered() {
    let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = Client::of(&tcp.local_addr().unwrap()).await;
    client.says(GET).await;
    support::has_queued(&tcp);
    let site = serve_tcp(HttpServer::from_listener(Listener::try_from(tcp).unwrap()));
    // The accept loop is not polled before the stop, because nothing is awaited in between.
    let (stopped, answer) = tokio::join!(site.stop(), client.hears_all());
    stopped.unwrap();
    assert!(
        answer.ends_with("hello") && answer.contains("connection: close"),
        "{answer}"
    );
}

#[tokio::test]
async fn several_listeners_are_one_server() {
    let mut listeners = Vec::new();
    for _ in 0..2 {
        listeners.push(Listener::from(
            tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap(),
        ));
    }
    let site = serve_tcp(HttpServer::from_listeners(listeners));
    for address in site.http.addresses() {
        let mut client = Client::of(address).await;
        client.says(GET).await;
        assert!(client.hears().await.ends_with("hello"));
    }
    site.stop().await.unwrap();
}

#[cfg(feature = "rustls")]
mod tls {
    use std::net::SocketAddr;
    use std::sync::Arc;

    use lifecycle_http::Limits;
    use tokio_rustls::rustls::pki_types::{PrivateKeyDer, ServerName};
    use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};
    use tokio_rustls::{TlsAcceptor, TlsConnector};

    use super::*;

    fn configured(alpn: &[&[u8]]) -> (TlsAcceptor, TlsConnector) {
        let made = rcgen::generate_simple_self_signed(["localhost".into()]).unwrap();
        let certificate = made.cert.der().clone();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(certificate.clone()).unwrap();
        let alpn: Vec<_> = alpn.iter().map(|name| name.to_vec()).collect();
        let mut server = ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
        server.alpn_protocols = alpn.clone();
        let mut client = ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth();
        client.alpn_protocols = alpn;
        (Arc::new(server).into(), Arc::new(client).into())
    }

    async fn connected(
        alpn: &[&[u8]],
    ) -> (
        support::Site<SocketAddr>,
        tokio_rustls::client::TlsStream<tokio::net::TcpStream>,
    ) {
        let (acceptor, connector) = configured(alpn);
        let builder = HttpServer::bind("127.0.0.1:0").await.unwrap();
        let site = serve_tcp(builder.handshake(acceptor));
        let tcp = site.place.connect().await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let client = connector.connect(name, tcp).await.unwrap();
        (site, client)
    }

    #[tokio::test]
    async fn h1_over_tls_finishes_and_says_goodbye() {
        let (site, mut client) = connected(&[]).await;
        client
            .write_all(b"GET /hold HTTP/1.1\r\nhost: a\r\n\r\n")
            .await
            .unwrap();
        site.reached().await;
        let (stopped, answer) = tokio::join!(site.stop(), async {
            site.told().await;
            site.stage.release.add_permits(1);
            let mut answer = String::new();
            // `read_to_string` fails if the server closes the stream without a `close_notify` of TLS.
            client.read_to_string(&mut answer).await.unwrap();
            answer
        });
        stopped.unwrap();
        assert!(
            answer.ends_with("held") && answer.contains("connection: close"),
            "{answer}"
        );
    }

    #[cfg(feature = "h2")]
    #[tokio::test]
    async fn alpn_chooses_h2() {
        let (site, client) = connected(&[b"h2", b"http/1.1"]).await;
        let (mut send, connection) = h2::client::handshake(client).await.unwrap();
        let driver = tokio::spawn(connection);
        let request = http::Request::get("https://localhost/").body(()).unwrap();
        let answer = send.send_request(request, true).unwrap().0.await.unwrap();
        assert_eq!(answer.version(), http::Version::HTTP_2);
        site.stop().await.unwrap();
        driver.await.unwrap().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_handshake_that_stops_half_way_has_the_hello() {
        let (acceptor, _) = configured(&[]);
        let (listener, place) = support::unix();
        let builder = HttpServer::from_listener(listener);
        let site = serve(builder.handshake(acceptor), place);
        let mut client = site.client().await;
        client.says("\x16\x03\x01\x02\x00").await;
        let start = tokio::time::Instant::now();
        assert!(client.is_closed().await);
        assert!(
            start.elapsed()
                <= Limits::default().header_read_timeout + std::time::Duration::from_millis(10)
        );
    }
}
