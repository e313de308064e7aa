//! Tests that the admin listener answers probes, whatever its other clients do. Otherwise an
//! attacker could make the probes fail, so that the orchestrator kills the proxy.

mod support;

use std::net::SocketAddr;

use support::{Client, Proxy, eventually};

fn start(more: &str) -> Proxy {
    Proxy::start(&format!(
        "{more}\nadmin: {{enabled: true, address: \"127.0.0.1:0\"}}\n"
    ))
}

#[track_caller]
fn probes_are_answered(address: SocketAddr) {
    for path in ["/livez", "/readyz"] {
        let (response, body) = Client::connect(address).get(path);
        assert_eq!(
            response.status,
            200,
            "{path}: {}",
            String::from_utf8_lossy(&body)
        );
    }
}

#[test]
fn silent_connections_do_not_block_probes() {
    let proxy = start("timeouts: {client_hello: 3600, idle: 3600}");
    let address = proxy.metrics_address();
    let mut silent: Vec<_> = (0..300).map(|_| Client::connect(address)).collect();
    probes_are_answered(address);
    for client in &mut silent[150..] {
        // Ignores an error, since the admin listener has closed some of the connections by now.
        let _ = std::io::Write::write_all(&mut client.stream, b"GET /livez HTTP/1.1\r\nHost:");
    }
    probes_are_answered(address);
    // The remaining silent connections are closed within seconds, although the proxy's own clients
    // may have longer time limits.
    for client in &mut silent {
        client.rest();
    }
}

#[test]
fn event_streams_and_slow_readers_do_not_block_probes() {
    let proxy = start("");
    let address = proxy.metrics_address();
    let (mut streams, mut statuses) = (Vec::new(), Vec::new());
    for _ in 0..200 {
        let mut client = Client::connect(address);
        client.send("GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n");
        statuses.push(client.response_head().status);
        streams.push(client);
    }
    assert!(
        statuses.contains(&200) && statuses.contains(&503),
        "{statuses:?}"
    );
    probes_are_answered(address);
    assert_eq!(Client::connect(address).get("/metrics").0.status, 200);

    // Once these streams have ended, other clients can open a stream again.
    drop(streams);
    eventually("another stream", || {
        let mut client = Client::connect(address);
        client.send("GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n");
        (client.response_head().status == 200).then_some(())
    });
}

#[test]
fn a_request_that_is_ambiguous_is_refused_here_too() {
    let proxy = start("");
    for fields in [
        "Host: localhost\r\nHost: evil.example",
        "Host: localhost\r\nContent-Length: 0\r\nTransfer-Encoding: chunked",
        "Host: localhost\r\nTransfer-Encoding: chunked, chunked",
        "Host: local host",
        "Host: localhost:port",
    ] {
        for path in ["/status", "/livez"] {
            let mut client = Client::connect(proxy.metrics_address());
            client.send(format!("GET {path} HTTP/1.1\r\n{fields}\r\n\r\n0\r\n\r\n"));
            assert_eq!(client.response_head().status, 400, "{path} {fields}");
        }
    }
}
