//! How many clients there may be, and how long each may take.

mod support;

use std::process::Command;

use support::{Client, Proxy, Upstream, eventually};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[test]
fn exactly_max_connections_are_served_and_the_next_is_refused_and_counted() {
    let proxy =
        Proxy::start("max_connections: 3\nmetrics: {enabled: true, address: \"127.0.0.1:0\"}");
    let mut served: Vec<_> = (0..3).map(|_| proxy.connect()).collect();
    for client in &mut served {
        assert_eq!(client.get("/").0.status, 200);
    }
    for _ in 0..2 {
        let (response, body) = proxy.connect().response();
        assert_eq!(response.status, 503);
        assert_eq!(response.header("connection"), Some("close"));
        assert!(
            String::from_utf8(body)
                .unwrap()
                .contains("too many connections")
        );
    }
    proxy.log().find("connection refused: the limit is reached");
    let mut scraper = Client::connect(proxy.metrics_address());
    let text = String::from_utf8(scraper.get("/metrics").1).unwrap();
    assert!(
        text.contains("\nproxy_connections_refused_total 2\n"),
        "{text}"
    );
    assert!(text.contains("\nproxy_connections_peak 3\n"), "{text}");

    // A place is free again as soon as a connection has ended.
    drop(served.pop());
    let address = proxy.metrics_address();
    eventually("a free place", || {
        let text = String::from_utf8(Client::connect(address).get("/metrics").1).unwrap();
        text.contains("\nproxy_connections_active 2\n")
            .then_some(())
    });
    let mut next = proxy.connect();
    assert_eq!(next.get("/").0.status, 200);
    for client in &mut served {
        assert_eq!(client.get("/").0.status, 200);
    }
}

#[test]
fn a_client_that_never_speaks_is_let_go() {
    let proxy = Proxy::start("timeouts: {client_hello: 1}");
    assert_eq!(proxy.connect().rest(), b"");
}

#[test]
fn a_client_that_sends_half_a_head_is_let_go_though_it_trickles() {
    let proxy = Proxy::start("timeouts: {client_hello: 1, idle: 3600}");
    let mut client = proxy.connect();
    client.send("GET / HTTP/1.1\r\nHost:");
    let mut writer = client.stream.try_clone().unwrap();
    std::thread::spawn(move || {
        while std::io::Write::write_all(&mut writer, b" a").is_ok() {
            std::thread::sleep(std::time::Duration::from_millis(100));
        }
    });
    assert_eq!(client.rest(), b"");
}

#[test]
fn a_connection_without_a_request_is_closed_after_the_idle_limit() {
    let proxy = Proxy::start("timeouts: {client_hello: 3600, idle: 1}");
    let mut client = proxy.connect();
    assert_eq!(client.get("/").0.status, 200);
    assert_eq!(client.rest(), b"");
}

#[test]
fn a_client_that_does_not_read_its_response_is_let_go() {
    let proxy =
        Proxy::start("timeouts: {idle: 1}\nmetrics: {enabled: true, address: \"127.0.0.1:0\"}");
    let mut client = proxy.connect();
    client.ask("/big?mb=100");
    let mut scraper = Client::connect(proxy.metrics_address());
    eventually("the end of the connection", || {
        let text = String::from_utf8(scraper.get("/metrics").1).unwrap();
        text.contains("\nproxy_connections_expired_total 1\n")
            .then_some(())
    });
}

#[test]
fn a_slow_upstream_is_not_held_against_the_client() {
    let upstream = Upstream::start(|_, client| {
        client.head();
        std::thread::sleep(std::time::Duration::from_millis(2500));
        client.send(OK);
    });
    let proxy = Proxy::before(
        &upstream,
        "timeouts: {client_hello: 1, idle: 1, response: 30}",
    );
    assert_eq!(proxy.connect().get("/").0.status, 200);
}

#[test]
fn too_few_file_descriptors_lower_the_limit_with_a_warning() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = Command::new("sh");
    command.args([
        "-c",
        "ulimit -n 64; exec \"$0\" \"$@\"",
        env!("CARGO_BIN_EXE_proxy"),
    ]);
    command.args([
        "--listen",
        "127.0.0.1:0",
        "--upstream",
        "http://127.0.0.1:9",
    ]);
    let proxy = Proxy::launch(command, directory);
    proxy.log().find("waiting for connections");
    let clamped = "connection limit set lower than configured: \
                   too few open files are allowed; raise `ulimit -n`";
    let line = proxy.log().find(clamped);
    assert_eq!(line["max_connections"], 16);
    assert_eq!(line["configured"], 10_000);
}
