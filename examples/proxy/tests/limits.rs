//! Tests of limits: the number of clients, their time limits, and the resources of the process.

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

    // The proxy accepts another connection as soon as one has ended.
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
fn a_client_that_sends_nothing_is_disconnected() {
    let proxy = Proxy::start("timeouts: {client_hello: 1}");
    assert_eq!(proxy.connect().rest(), b"");
}

#[test]
fn a_client_that_trickles_half_a_head_is_disconnected() {
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
fn a_client_that_does_not_read_its_response_is_disconnected() {
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
fn a_slow_upstream_does_not_expire_the_client_connection() {
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
    // Each thread that serves clients takes 4 descriptors, and each connection takes 2.
    let threads = std::thread::available_parallelism().unwrap().get();
    let script = format!("ulimit -n {}; exec \"$0\" \"$@\"", 64 + 4 * threads);
    command.args(["-c", &script, env!("CARGO_BIN_EXE_proxy")]);
    command.args([
        "--listen",
        "127.0.0.1:0",
        "--upstream",
        "http://127.0.0.1:9",
    ]);
    let proxy = Proxy::launch(command, directory);
    proxy.log().find("waiting for connections");
    let line = proxy
        .log()
        .find("too few open files: `max_connections` lowered");
    assert_eq!(line["max_connections"], 16);
    let advice = line["advice"].as_str().unwrap();
    assert!(advice.contains("LimitNOFILE="), "{advice}");
    assert_eq!(line["configured"], 10_000);
}

/// Returns the processor time that a process has used, in clock ticks.
fn ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<_> = stat[stat.rfind(')').unwrap()..].split(' ').collect();
    fields[12].parse::<u64>().unwrap() + fields[13].parse::<u64>().unwrap()
}

/// Starts the proxy after `ulimit` with the arguments `limit`.
fn limited(limit: &str, config: &str) -> Proxy {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("proxy.yaml");
    std::fs::write(&file, config).unwrap();
    let script = format!("trap '' XFSZ; ulimit {limit}; exec \"$0\" \"$@\"");
    let mut command = Command::new("sh");
    command.args(["-c", &script, env!("CARGO_BIN_EXE_proxy")]);
    command
        .arg("-c")
        .arg(&file)
        .args(["--listen", "127.0.0.1:0"]);
    let proxy = Proxy::launch(command, directory);
    proxy.log().find("waiting for connections");
    proxy
}

#[test]
fn under_load_with_few_descriptors_it_answers_or_refuses_and_neither_crashes_nor_spins() {
    let upstream = Upstream::start(|_, client| {
        while let Some(head) = client.next_head() {
            client.body(&head);
            client.send(OK);
        }
    });
    let config = format!("upstream: http://{}\nworker_threads: 2", upstream.address);
    let proxy = limited("-n 64", &config);
    let address = proxy.address();
    let load: Vec<_> = (0..40)
        .map(|_| {
            std::thread::spawn(move || {
                for _ in 0..25 {
                    let mut client = Client::connect(address);
                    client.ask("/");
                    // A refused connection may be reset before the client has read the answer.
                    if let Some(head) = client.next_head() {
                        let answered = head.starts_with("HTTP/1.1 200 ");
                        assert!(answered || head.starts_with("HTTP/1.1 503 "), "{head}");
                    }
                }
            })
        })
        .collect();
    for thread in load {
        thread.join().unwrap();
    }
    // The clients are more than the proxy's descriptors, and all of them are silent.
    let silent: Vec<_> = (0..100).map(|_| Client::connect(address)).collect();
    let before = ticks(proxy.id());
    std::thread::sleep(std::time::Duration::from_secs(1));
    assert!(ticks(proxy.id()) - before < 50, "it spins");
    drop(silent);
    eventually("an answer", || {
        let mut client = Client::connect(address);
        client.ask("/");
        let head = client.next_head()?;
        head.starts_with("HTTP/1.1 200 ").then_some(())
    });
    proxy.signal(rustix::process::Signal::TERM);
    assert_eq!(proxy.wait().code(), 0);
}

#[test]
fn with_no_descriptor_left_it_waits_for_one_and_neither_ends_nor_spins() {
    let proxy = Proxy::start("");
    let pid = rustix::process::Pid::from_raw(i32::try_from(proxy.id()).unwrap());
    let allow = |current| {
        let resource = rustix::process::Resource::Nofile;
        let before = rustix::process::prlimit(
            pid,
            resource,
            rustix::process::Rlimit {
                current,
                ..rustix::process::getrlimit(resource)
            },
        );
        before.unwrap().current
    };
    let before = allow(Some(3));
    let mut client = proxy.connect();
    client.ask("/");
    proxy.log().find("cannot accept connections");
    let used = ticks(proxy.id());
    std::thread::sleep(std::time::Duration::from_secs(1));
    assert!(ticks(proxy.id()) - used < 20, "it spins");
    allow(before);
    assert_eq!(client.response().0.status, 200);
    // The log may have one line a second, however many attempts to accept have failed.
    let complaints = proxy.log().all("cannot accept connections").len();
    assert!(complaints < 10, "{complaints}");
}

/// Starts a proxy with the limits in `config`. Asserts that it refuses requests while the `crowd`
/// exists, and accepts them after the crowd was dropped.
fn sheds_with<C>(resource: &str, config: &str, crowd: impl FnOnce(&Proxy) -> C) {
    let proxy = Proxy::start(&format!(
        "{config}\nmetrics: {{enabled: true, address: \"127.0.0.1:0\"}}\n"
    ));
    let mut kept = proxy.connect();
    assert_eq!(kept.get("/").0.status, 200);
    let mut scraper = Client::connect(proxy.metrics_address());
    let mut metrics = || String::from_utf8(scraper.get("/metrics").1).unwrap();
    let crowd = crowd(&proxy);
    assert_eq!(proxy.log().find("shedding load")["resource"], resource);
    let (response, _) = kept.get("/");
    assert_eq!(response.status, 503);
    assert_eq!(response.header("connection"), Some("close"));
    assert_eq!(proxy.connect().response().0.status, 503, "nor a connection");
    let text = metrics();
    assert!(text.contains("\nproxy_load_breaker 2\n"), "{text}");
    let value = |text: &str, name: &str| -> u64 {
        let label = format!("proxy_resource_{name}{{resource=\"{resource}\"}} ");
        let line = text.lines().find_map(|line| line.strip_prefix(&label));
        line.unwrap().parse().unwrap()
    };
    let most = value(&text, "used");
    drop(crowd);
    proxy.log().find("accepting load again");
    let text = metrics();
    assert!(value(&text, "used") < most, "{text}");
    assert!(value(&text, "peak") >= most, "{text}");
    assert!(text.contains("\nproxy_load_breaker 0\n"), "{text}");
    assert_eq!(proxy.connect().get("/").0.status, 200);
}

#[test]
fn load_is_shed_while_too_many_files_are_open() {
    let config = "worker_threads: 2\nlimits: {open_files: {soft: 60, hard: 80}}";
    sheds_with("open_files", config, |proxy| {
        (0..60).map(|_| proxy.connect()).collect::<Vec<_>>()
    });
}

#[test]
fn load_is_shed_while_there_are_too_many_connections() {
    let config = "limits: {connections: {soft: 10, hard: 20}}";
    sheds_with("connections", config, |proxy| {
        (0..25).map(|_| proxy.connect()).collect::<Vec<_>>()
    });
}

#[test]
fn load_is_shed_while_there_are_too_many_tasks() {
    let config = "limits: {tasks: {soft: 30, hard: 50}}";
    sheds_with("tasks", config, |proxy| {
        (0..60).map(|_| proxy.connect()).collect::<Vec<_>>()
    });
}

#[test]
fn load_is_shed_while_there_are_too_many_sessions() {
    let upstream = Upstream::start(|_, client| {
        while client.next_head().is_some() {
            client.send(OK);
        }
    });
    let to = upstream.address;
    let config = format!(
        "limits: {{sessions: {{soft: 3, hard: 6}}}}\nroutes:\n\
         - upstreams: [\"http://{to}\"]\n  sticky: {{cookie: whose, idle: 2}}\n"
    );
    // The sessions of the crowd expire, so their number falls again.
    sheds_with("sessions", &config, |proxy| {
        for _ in 0..7 {
            assert_eq!(proxy.connect().get("/").0.status, 200);
        }
    });
}

#[test]
fn a_full_disk_costs_tape_entries_but_no_traffic() {
    let config = "recorder: {path: tape.ndjson}\nmetrics: {file: numbers.json}";
    // `ulimit -f 8` allows files of 4 KiB, since it counts blocks of 512 bytes.
    let proxy = limited("-f 8", config);
    let mut client = proxy.connect();
    for _ in 0..100 {
        assert_eq!(client.get("/").0.status, 200);
    }
    proxy.signal(rustix::process::Signal::TERM);
    let ended = proxy.wait();
    assert_eq!(ended.code(), 1, "{}", ended.log.text());
    assert!(
        ended.report().contains("traffic tape tape.ndjson"),
        "{}",
        ended.report()
    );
    let read = |name| std::fs::read_to_string(ended.directory.path().join(name)).unwrap();
    let numbers: serde_json::Value = serde_json::from_str(&read("numbers.json")).unwrap();
    let count = |name: &str| numbers[name].as_u64().unwrap();
    assert_eq!(count("tape_written") + count("tape_dropped"), 100);
    assert!(
        count("tape_written") > 0 && count("tape_dropped") > 0,
        "{numbers}"
    );
    let tape = read("tape.ndjson");
    assert_eq!(tape.lines().count() as u64, count("tape_written"));
    for line in tape.lines() {
        serde_json::from_str::<serde_json::Value>(line).unwrap();
    }
}

#[test]
fn a_full_tape_is_rotated() {
    let config = "recorder: {path: tape.ndjson, max_bytes: 1000, keep: 2}";
    let proxy = Proxy::start(config);
    let mut client = proxy.connect();
    for _ in 0..50 {
        assert_eq!(client.get("/").0.status, 200);
    }
    proxy.signal(rustix::process::Signal::TERM);
    let ended = proxy.wait();
    assert_eq!(ended.code(), 0, "{}", ended.log.text());
    let size = |name| std::fs::metadata(ended.directory.path().join(name)).map(|file| file.len());
    for name in ["tape.ndjson", "tape.ndjson.1", "tape.ndjson.2"] {
        assert!(
            size(name).is_ok_and(|size| size > 0 && size <= 1000),
            "{name}"
        );
    }
    assert!(size("tape.ndjson.3").is_err());
}
