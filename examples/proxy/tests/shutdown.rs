//! Tests of shutdowns by a signal: requests that have begun are completed, the report lists all
//! steps, and the exit code shows the result.

mod support;

use std::io::Read;
use std::net::TcpStream;
use std::time::Duration;

use rustix::process::Signal;
use support::{Client, Ended, Proxy, Upstream, eventually};

/// The steps of the server, in the order in which they end.
const STEPS: [&str; 6] = [
    "token",
    "accept",
    "connections",
    "background",
    "pool",
    "metrics",
];

#[track_caller]
fn assert_clean(ended: &Ended) {
    assert_eq!(ended.code(), 0, "{}", ended.log.text());
    let report = ended.report();
    let mut place = 0;
    for step in STEPS {
        let found = report[place..].find(step);
        place += found.unwrap_or_else(|| panic!("no {step} in order: {report}"));
    }
    ended.log.find("all complete");
}

#[test]
fn sigterm_finishes_the_request_in_flight_and_refuses_new_connections() {
    let proxy = Proxy::start("");
    let mut client = proxy.connect();
    client.ask("/slow?seconds=1");
    let head = client.response_head();
    assert_eq!(head.status, 200);

    proxy.drain();
    let address = proxy.address();
    assert!(TcpStream::connect(address).is_err(), "it still listens");

    let body = client.body(&head.head);
    assert!(body.ends_with(b"tick 10 of 10\n"));
    assert_eq!(client.rest(), b"");
    assert_clean(&proxy.wait());
}

#[test]
fn a_response_that_begins_while_draining_says_that_it_is_the_last() {
    let (answer, told) = std::sync::mpsc::channel::<()>();
    let told = std::sync::Mutex::new(told);
    let upstream = Upstream::start(move |_, client| {
        client.head();
        told.lock().unwrap().recv().unwrap();
        client.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    });
    let proxy = Proxy::before(&upstream, "");
    let (mut client, mut silent) = (proxy.connect(), proxy.connect());
    client.ask("/");
    eventually("the request's arrival", || {
        let count = upstream
            .connections
            .load(std::sync::atomic::Ordering::SeqCst);
        (count == 1).then_some(())
    });
    proxy.drain();
    // The drain closes a connection without a request, which shows that all connections were told.
    assert_eq!(silent.rest(), b"");
    answer.send(()).unwrap();
    let (response, body) = client.response();
    assert_eq!((response.status, &*body), (200, &b"ok"[..]));
    assert_eq!(response.header("connection"), Some("close"));
    assert_clean(&proxy.wait());
}

#[test]
fn under_load_no_byte_of_a_started_request_is_lost() {
    let proxy = Proxy::start("");
    let mut idle: Vec<_> = (0..20).map(|_| proxy.connect()).collect();
    for client in &mut idle {
        assert_eq!(client.get("/").0.status, 200);
    }
    let mut slow = proxy.connect();
    slow.ask("/slow?seconds=3");
    let slow_head = slow.response_head();
    let mut big = proxy.connect();
    big.ask("/big?mb=20");
    let big_head = big.response_head();

    proxy.signal(Signal::INT);
    for client in &mut idle {
        assert_eq!(client.rest(), b"", "idle connections are closed");
    }
    let reader = std::thread::spawn(move || read_slowly(&mut big, 20 << 20));
    let body = slow.body(&slow_head.head);
    assert_eq!(String::from_utf8(body).unwrap().lines().count(), 30);
    assert_eq!(big_head.header("content-length"), Some("20971520"));
    assert_eq!(reader.join().unwrap(), 20 << 20);

    let ended = proxy.wait();
    assert_clean(&ended);
    assert!(ended.report().contains("SIGINT"), "{}", ended.report());
}

#[test]
fn requests_that_wait_in_the_kernel_when_the_signal_comes_are_answered() {
    let proxy = Proxy::start("");
    let address = proxy.address();
    // The process is stopped, but the kernel still completes connections and receives requests for
    // it. When the process goes on, it finds all of them and the signal at once.
    proxy.signal(Signal::STOP);
    let mut clients: Vec<_> = (0..20).map(|_| Client::connect(address)).collect();
    for client in &mut clients {
        client.ask("/");
    }
    proxy.signal(Signal::TERM);
    proxy.signal(Signal::CONT);
    for client in &mut clients {
        assert_eq!(client.response().0.status, 200);
        assert_eq!(client.rest(), b"");
    }
    assert_clean(&proxy.wait());
}

/// Reads 64 KiB every 5 ms, and checks the pattern of the bytes. Returns the number of bytes.
fn read_slowly(client: &mut Client, length: usize) -> usize {
    let mut total = 0;
    while total < length {
        let mut part = Vec::new();
        client.read_more(&mut part, 64 * 1024);
        assert!(
            part.chunks(64)
                .all(|line| line[0] == b'0' && line[63] == b'\n')
        );
        total += part.len();
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(client.rest(), b"");
    total
}

#[test]
fn an_upload_in_flight_arrives_whole() {
    let proxy = Proxy::start("");
    let mut client = proxy.connect();
    client.send("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n");
    let head = client.response_head();
    assert_eq!(client.chunk().unwrap(), b"one");
    proxy.drain();
    client.send("3\r\ntwo\r\n0\r\n\r\n");
    assert_eq!(client.body(&head.head), b"two");
    assert_clean(&proxy.wait());
}

#[test]
fn silent_and_half_open_clients_do_not_delay_the_shutdown() {
    let proxy = Proxy::start("timeouts: {client_hello: 1}\nshutdown_timeout: 600");
    let mut silent = proxy.connect();
    let mut half = proxy.connect();
    half.send("GET / HTTP/1.1\r\n");
    let mut done = proxy.connect();
    assert_eq!(done.get("/").0.status, 200);
    proxy.signal(Signal::TERM);
    for client in [&mut silent, &mut half, &mut done] {
        assert_eq!(client.rest(), b"");
    }
    assert_clean(&proxy.wait());
}

#[test]
fn many_idle_connections_are_all_closed_and_the_report_is_clean() {
    let config = "shutdown_timeout: 600\nmetrics: {file: numbers.json}";
    let proxy = Proxy::start(config);
    let mut clients: Vec<_> = (0..300).map(|_| proxy.connect()).collect();
    // Some clients have got an answer, and some have sent nothing yet.
    for client in clients.iter_mut().step_by(3) {
        assert_eq!(client.get("/").0.status, 200);
    }
    proxy.signal(Signal::TERM);
    for client in &mut clients {
        assert_eq!(client.rest(), b"");
    }
    let ended = proxy.wait();
    assert_clean(&ended);
    let numbers = std::fs::read_to_string(ended.directory.path().join("numbers.json")).unwrap();
    let numbers: serde_json::Value = serde_json::from_str(&numbers).unwrap();
    assert_eq!(numbers["connections_accepted"], 300);
    assert_eq!(numbers["connections_active"], 0);
    for kind in ["connections_cut", "connections_expired", "requests_aborted"] {
        assert_eq!(numbers[kind], 0, "{kind}");
    }
}

#[test]
fn at_the_deadline_stragglers_are_cut_and_named_and_later_steps_run() {
    let upstream = Upstream::start(|_, client| {
        client.head();
        client.rest();
    });
    let config = "shutdown_timeout: 4\nmetrics: {file: numbers.json}";
    let proxy = Proxy::before(&upstream, config);
    let mut client = proxy.connect();
    client.ask("/hangs");
    let peer = client.stream.local_addr().unwrap().to_string();
    eventually("the request's arrival", || {
        let count = upstream
            .connections
            .load(std::sync::atomic::Ordering::SeqCst);
        (count == 1).then_some(())
    });
    proxy.signal(Signal::TERM);
    assert_eq!(client.rest(), b"");
    let ended = proxy.wait();
    // The report contains the client that was cut. The exit code is 0, since the step of the
    // connections is best effort.
    assert_eq!(ended.code(), 0, "{}", ended.log.text());
    ended
        .log
        .find("complete, but not everything could be done in time");
    assert!(ended.report().contains(&peer), "{}", ended.report());
    let numbers = std::fs::read_to_string(ended.directory.path().join("numbers.json")).unwrap();
    let numbers: serde_json::Value = serde_json::from_str(&numbers).unwrap();
    assert_eq!(numbers["connections_cut"], 1);
    assert_eq!(numbers["requests_aborted"], 1);
}

#[test]
fn a_second_signal_later_cuts_the_clients_that_are_left() {
    let proxy = Proxy::start("shutdown_timeout: 600");
    let mut client = proxy.connect();
    client.ask("/slow?seconds=3600");
    assert_eq!(client.response_head().status, 200);
    proxy.drain();
    // Waits, since a signal within half a second would count as the same request for a shutdown.
    std::thread::sleep(Duration::from_millis(700));
    proxy.signal(Signal::TERM);
    let peer = client.stream.local_addr().unwrap().to_string();
    let ended = proxy.wait();
    // The report contains the client that was cut. The exit code is 0, since the step of the
    // connections is best effort.
    assert_eq!(ended.code(), 0, "{}", ended.log.text());
    assert!(ended.report().contains(&peer), "{}", ended.report());
}

#[test]
fn the_tape_and_the_metrics_count_every_request() {
    let config = "recorder: {path: tape.ndjson}\nmetrics: {file: numbers.json}";
    let proxy = Proxy::start(config);
    let mut client = proxy.connect();
    for _ in 0..50 {
        assert_eq!(client.get("/status/404").0.status, 404);
    }
    client.ask("/slow?seconds=1");
    let head = client.response_head();
    proxy.drain();
    client.body(&head.head);
    let ended = proxy.wait();
    assert_clean(&ended);

    let read = |name| std::fs::read_to_string(ended.directory.path().join(name)).unwrap();
    let tape = read("tape.ndjson");
    let entries: Vec<serde_json::Value> = tape
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(entries.len(), 51);
    assert_eq!(entries[0]["path"], "/status/404");
    assert_eq!(entries[0]["status"], 404);
    assert_eq!(entries[50]["path"], "/slow?seconds=1");
    assert_eq!(entries[50]["complete"], true);
    let numbers: serde_json::Value = serde_json::from_str(&read("numbers.json")).unwrap();
    assert_eq!(numbers["requests"], 51);
    assert_eq!(numbers["responses_4xx"], 50);
    assert_eq!(numbers["tape_written"], 51);
    assert_eq!(numbers["requests_unfinished"], 0);
    assert_eq!(numbers["connections_active"], 0);
}

#[test]
fn a_tape_that_cannot_be_written_is_a_failed_step_and_exit_code_1() {
    let config = "recorder: {path: /dev/full}\nmetrics: {file: numbers.json}";
    let proxy = Proxy::start(config);
    assert_eq!(proxy.connect().get("/").0.status, 200);
    proxy.signal(Signal::TERM);
    let ended = proxy.wait();
    assert_eq!(ended.code(), 1, "{}", ended.log.text());
    assert!(
        ended.report().contains("traffic tape /dev/full"),
        "{}",
        ended.report()
    );
    assert!(
        ended.directory.path().join("numbers.json").exists(),
        "later steps run"
    );
}

#[test]
fn the_metrics_are_served_while_the_proxy_drains() {
    let proxy = Proxy::start("metrics: {enabled: true, address: \"127.0.0.1:0\"}");
    let mut client = proxy.connect();
    client.ask("/slow?seconds=1");
    let head = client.response_head();
    proxy.drain();
    let (_, text) = Client::connect(proxy.metrics_address()).get("/metrics");
    let text = String::from_utf8(text).unwrap();
    assert!(text.contains("\nproxy_requests_unfinished 1\n"), "{text}");
    client.body(&head.head);
    let ended = proxy.wait();
    assert_clean(&ended);
    ended.log.find("admin server stopped");
}

#[test]
fn it_serves_through_the_lame_duck_but_is_not_ready_from_its_first_moment() {
    let proxy = Proxy::start("lame_duck: 5\nmetrics: {enabled: true, address: \"127.0.0.1:0\"}");
    let probe = |path: &str| {
        let (response, text) = Client::connect(proxy.metrics_address()).get(path);
        (response.status, String::from_utf8(text).unwrap())
    };
    assert_eq!(probe("/readyz"), (200, "ready\n".into()));
    proxy.signal(Signal::TERM);
    support::eventually("/readyz says no", || {
        (probe("/readyz").0 == 503).then_some(())
    });
    assert_eq!(probe("/readyz").1, "draining\n");
    assert_eq!(probe("/livez").0, 200);
    let (response, _) = proxy.connect().get("/");
    assert_eq!(response.status, 200);
    assert_eq!(response.header("connection"), Some("close"));
    assert!(proxy.log().all("no longer listening").is_empty());
    let ended = proxy.wait();
    assert_clean(&ended);
    assert!(ended.report().contains("lame_duck"), "{}", ended.report());
}

#[test]
fn upstream_connections_are_closed_by_the_end() {
    let (tell, closed) = std::sync::mpsc::channel();
    let upstream = Upstream::start(move |_, client| {
        client.head();
        client.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        let mut rest = Vec::new();
        tell.send(client.stream.read_to_end(&mut rest)).unwrap();
    });
    let proxy = Proxy::before(&upstream, "");
    assert_eq!(proxy.connect().get("/").0.status, 200);
    proxy.signal(Signal::TERM);
    assert_clean(&proxy.wait());
    let closed = closed.recv_timeout(support::PATIENCE).unwrap();
    assert_eq!(closed.unwrap(), 0, "closed in order, not reset");
}
