//! Tests of TLS that is passed on by server name: the servers that clients reach, the connections
//! that are refused and counted, the shutdown, and older configuration files.

mod support;

use std::io::Write;
use std::net::TcpStream;

use rustix::process::Signal;
use support::{Client, Proxy, Upstream, eventually};

/// Encodes a ClientHello (RFC 8446 §4.1.2) with `name` as its server name.
fn hello(name: Option<&str>) -> Vec<u8> {
    let prefixed = |size: usize, bytes: &[u8]| {
        let length = bytes.len().to_be_bytes();
        [&length[length.len() - size..], bytes].concat()
    };
    let extension =
        |kind: u16, bytes: &[u8]| [&kind.to_be_bytes()[..], &prefixed(2, bytes)].concat();
    let mut extensions = Vec::new();
    if let Some(name) = name {
        let entry = [&[0][..], &prefixed(2, name.as_bytes())].concat();
        extensions.extend(extension(0, &prefixed(2, &entry)));
    }
    // The extensions signature_algorithms, supported_groups and supported_versions.
    extensions.extend(extension(13, &prefixed(2, &[0x08, 0x04, 0x04, 0x03])));
    extensions.extend(extension(10, &prefixed(2, &[0x00, 0x1d])));
    extensions.extend(extension(43, &prefixed(1, &[0x03, 0x04])));
    let body = [
        &[0x03, 0x03][..],
        &[7; 32],
        &prefixed(1, &[]),
        &prefixed(2, &[0x13, 0x01]),
        &prefixed(1, &[0]),
        &prefixed(2, &extensions),
    ]
    .concat();
    let handshake = [&[1][..], &prefixed(3, &body)].concat();
    [&[0x16, 0x03, 0x01][..], &prefixed(2, &handshake)].concat()
}

/// Starts a server that echoes all bytes.
fn echo() -> Upstream {
    Upstream::start(|_, client| {
        let mut copy = client.stream.try_clone().unwrap();
        let _ = std::io::copy(&mut client.stream, &mut copy);
    })
}

fn config(upstream: &Upstream) -> String {
    let to = upstream.address;
    format!(
        "tls:\n  listen_addrs: [\"127.0.0.1:0\"]\n  allow:\n  - {{name: \"*.shop.example\", to: \"{to}\"}}\n  \
         - {{name: gone.example, to: \"{}\"}}\n\
         metrics: {{enabled: true, address: \"127.0.0.1:0\", file: numbers.json}}\n",
        Upstream::unused_address()
    )
}

fn connect(proxy: &Proxy) -> Client {
    Client::connect(proxy.tls_address())
}

const UNRECOGNIZED_NAME: [u8; 7] = [0x15, 3, 3, 0, 2, 2, 112];

#[test]
fn a_connection_goes_to_the_server_of_its_name_untouched_and_both_ways() {
    let upstream = echo();
    let proxy = Proxy::start(&config(&upstream));
    let mut client = connect(&proxy);
    let hello = hello(Some("www.SHOP.example"));
    // Sends the message in pieces, as a network may deliver it.
    for piece in hello.chunks(20) {
        client.send(piece);
    }
    let mut back = Vec::new();
    client.read_more(&mut back, hello.len());
    assert_eq!(back, hello);
    client.send("more");
    client.read_more(&mut back, 4);
    client.stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(client.rest(), b"");
    let text = proxy.metrics();
    assert!(
        text.contains("proxy_tls_connections_total{fate=\"passed\"} 1\n"),
        "{text}"
    );
}

#[test]
fn refused_tls_clients_get_an_alert_and_are_counted_by_reason() {
    let upstream = echo();
    let proxy = Proxy::start(&config(&upstream));
    for (bytes, answer, fate) in [
        (
            hello(Some("shop.example")),
            &UNRECOGNIZED_NAME[..],
            "not_allowed",
        ),
        (hello(None), &UNRECOGNIZED_NAME, "no_name"),
        (
            hello(Some("gone.example")),
            &UNRECOGNIZED_NAME,
            "unreachable",
        ),
        (
            b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
            b"",
            "no_hello",
        ),
    ] {
        let mut client = connect(&proxy);
        client.send(bytes);
        assert_eq!(client.rest(), answer, "{fate}");
        let line = format!("proxy_tls_connections_total{{fate=\"{fate}\"}} 1\n");
        let text = proxy.metrics();
        assert!(text.contains(&line), "{line}: {text}");
    }
    proxy.log().find("TLS connection refused");
    proxy.signal(Signal::TERM);
    let ended = proxy.wait();
    let numbers = std::fs::read_to_string(ended.directory.path().join("numbers.json")).unwrap();
    let numbers: serde_json::Value = serde_json::from_str(&numbers).unwrap();
    assert_eq!(
        (&numbers["tls_passed"], &numbers["tls_refused"]),
        (&0.into(), &4.into())
    );
}

#[test]
fn a_client_that_does_not_finish_its_hello_is_disconnected() {
    let upstream = echo();
    let proxy = Proxy::start(&format!(
        "{}timeouts: {{client_hello: 1}}\n",
        config(&upstream)
    ));
    let mut client = connect(&proxy);
    client.send(&hello(Some("a.shop.example"))[..30]);
    assert_eq!(client.rest(), b"");
    let mut silent = connect(&proxy);
    assert_eq!(silent.rest(), b"");
}

#[test]
fn the_shutdown_awaits_tls_connections_then_cuts_them_at_the_deadline() {
    let upstream = echo();
    let proxy = Proxy::start(&format!("{}shutdown_timeout: 4\n", config(&upstream)));
    let hello = hello(Some("a.shop.example"));
    let through = || {
        let mut client = connect(&proxy);
        client.send(&hello);
        client.read_more(&mut Vec::new(), hello.len());
        client
    };
    let (mut ends, mut stays) = (through(), through());
    let unused = connect(&proxy);
    proxy.signal(Signal::TERM);
    eventually("that nobody listens", || {
        (proxy.log().all("no longer listening").len() == 2).then_some(())
    });
    assert!(TcpStream::connect(proxy.tls_address()).is_err());
    assert_eq!(Client::over(unused.stream.try_clone().unwrap()).rest(), b"");
    // The connection that is open goes on during the shutdown.
    ends.stream.write_all(b"last").unwrap();
    let mut last = Vec::new();
    ends.read_more(&mut last, 4);
    assert_eq!(last, b"last");
    drop(ends);
    assert_eq!(stays.rest(), b"");
    let ended = proxy.wait();
    assert_eq!(ended.code(), 0, "{}", ended.log.text());
    let numbers = std::fs::read_to_string(ended.directory.path().join("numbers.json")).unwrap();
    let numbers: serde_json::Value = serde_json::from_str(&numbers).unwrap();
    assert_eq!(numbers["connections_cut"], 1);
    ended.log.find("admin server stopped");
}

#[test]
fn tls_connections_count_against_max_connections() {
    let upstream = echo();
    let proxy = Proxy::start(&format!("{}max_connections: 1\n", config(&upstream)));
    let mut first = connect(&proxy);
    let hello = hello(Some("a.shop.example"));
    first.send(&hello);
    first.read_more(&mut Vec::new(), hello.len());
    assert_eq!(proxy.connect().response().0.status, 503);
}
