//! Tests of discovery and saved state: registries and peers learn when the proxy starts and stops,
//! and a later process restores the saved state.

mod support;

use std::net::{TcpStream, UdpSocket};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use lifecycle_proxy::app::ProxyServer;
use lifecycle_proxy::config::Config;
use lifecycle_runtime::Report;
use rustix::process::Signal;
use serde_json::{Value, json};
use support::link::Link;
use support::peer::Peer;
use support::registry::Registry;
use support::{Client, Ended, Proxy, Upstream, eventually};

/// Stops a proxy, and asserts that its shutdown was clean.
#[track_caller]
fn end(proxy: Proxy) -> Ended {
    proxy.signal(Signal::TERM);
    let ended = proxy.wait();
    assert_eq!(ended.code(), 0, "{}", ended.log.text());
    ended.log.find("all complete");
    ended
}

fn consul() -> Registry {
    Registry::start(|_| (200, ""))
}

fn etcd() -> Registry {
    Registry::start(|line| match line {
        "POST /v3/lease/grant" => (200, r#"{"ID":"7587","TTL":"15"}"#),
        "POST /v3/lease/keepalive" => (200, r#"{"result":{"ID":"7587","TTL":"15"}}"#),
        _ => (200, "{}"),
    })
}

fn read_json(path: &Path) -> Option<Value> {
    serde_json::from_str(&std::fs::read_to_string(path).ok()?).ok()
}

#[test]
fn sigterm_triggers_the_shutdown_and_requests_complete_while_new_ones_are_refused() {
    let (peer, registry) = (Peer::start(), consul());
    let proxy = Proxy::start(&format!(
        "discovery: {{peers: {{listen: 127.0.0.1:0, tell: [{}]}}, consul: {{url: http://{}}}}}",
        peer.address, registry.address
    ));
    let mut client = proxy.connect();
    client.ask("/slow?seconds=1");
    let head = client.response_head();
    proxy.signal(Signal::TERM);
    let (goodbye, from) = peer.next("goodbye");
    // The proxy must serve until all goodbyes are acknowledged.
    assert_eq!(proxy.connect().get("/").0.status, 200);
    peer.send("ack", &goodbye["nonce"], from);
    proxy.log().find("no longer listening");
    assert!(TcpStream::connect(proxy.address()).is_err());
    assert!(client.body(&head.head).ends_with(b"tick 10 of 10\n"));
    let ended = proxy.wait();
    assert_eq!(ended.code(), 0, "{}", ended.log.text());
    assert!(ended.report().contains("SIGTERM"), "{}", ended.report());
}

#[test]
fn goodbyes_are_cut_at_their_deadline_and_silent_receivers_named() {
    let hanging = Upstream::start(|_, client| {
        client.head();
        client.rest();
    });
    let (deaf, silent) = (Peer::start(), Registry::silent());
    let proxy = Proxy::before(
        &hanging,
        &format!(
            "shutdown_timeout: 1\n\
             discovery:\n  timeout: 1\n  peers: {{listen: 127.0.0.1:0, tell: [{}]}}\n  \
             consul: {{url: http://{silent}}}\n  etcd: {{endpoints: [http://{silent}]}}\n",
            deaf.address,
            silent = silent.address,
        ),
    );
    let mut client = proxy.connect();
    client.ask("/hangs");
    let caller = client.stream.local_addr().unwrap().to_string();
    silent.find("PUT /v1/agent/service/register");
    silent.find("POST /v3/lease/grant");
    proxy.signal(Signal::TERM);
    assert_eq!(client.rest(), b"");
    let ended = proxy.wait();
    assert_eq!(ended.code(), 0, "{}", ended.log.text());
    ended
        .log
        .find("complete, but not everything could be done in time");
    for part in [
        &format!("no acknowledgement from {}", deaf.address),
        "not sent within 1s",
        &caller,
    ] {
        assert!(ended.report().contains(part), "{part}: {}", ended.report());
    }
}

#[test]
fn the_announcement_has_the_actual_port_and_is_withdrawn_with_a_ttl_of_0() {
    let link = Link::start();
    let port = link.port;
    let proxy = Proxy::start(&format!(
        "discovery: {{id: edge-1, mdns: {{port: {port}}}}}"
    ));
    let here = link.next();
    assert_eq!(here.name, "edge-1._http._tcp.local");
    assert_eq!(here.port, proxy.address().port());
    assert!(here.ttl > 0, "{here:?}");
    proxy.log().find("announced by multicast DNS");
    proxy.signal(Signal::TERM);
    let gone = link.goodbye();
    assert_eq!((&gone.name, gone.port), (&here.name, here.port));
    assert_eq!(
        link.next().ttl,
        0,
        "it is repeated, since datagrams are lost"
    );
    assert_eq!(proxy.wait().code(), 0);
}

#[test]
fn a_goodbye_is_repeated_until_the_peer_acknowledges_it() {
    let peer = Peer::start();
    let proxy = Proxy::start(&format!(
        "discovery: {{id: edge-1, peers: {{listen: 127.0.0.1:0, tell: [{}]}}}}",
        peer.address
    ));
    let (hello, from) = peer.next("hello");
    assert_eq!(hello["id"], "edge-1");
    assert_eq!(from, proxy.peers_address());
    proxy.signal(Signal::TERM);
    let (first, _) = peer.next("goodbye");
    let (again, from) = peer.next("goodbye");
    assert_eq!(again, first, "the same one");
    peer.send("ack", &json!("another"), from);
    peer.next("goodbye");
    peer.send("ack", &again["nonce"], from);
    let ended = proxy.wait();
    assert_eq!(ended.code(), 0, "{}", ended.log.text());
    assert_eq!(
        ended.log.find("peers acknowledged the goodbye")["acknowledged"],
        1
    );
    assert_eq!(ended.log.all("peers acknowledged the goodbye").len(), 1);
}

#[test]
fn a_peers_goodbye_is_acknowledged_and_remembered_and_bad_bytes_are_not() {
    let peer = Peer::start();
    let config = format!(
        "state: {{file: state.json}}\n\
         discovery: {{peers: {{listen: 127.0.0.1:0, tell: [{}]}}}}",
        peer.address
    );
    let proxy = Proxy::start(&config);
    let to = proxy.peers_address();
    peer.send_raw(b"\x00\xff no JSON", to);
    peer.send("hello", &json!("a"), to);
    assert_eq!(peer.next("ack").0["nonce"], "a");
    peer.send("goodbye", &json!("b"), to);
    assert_eq!(peer.next("ack").0["nonce"], "b");
    assert_eq!(proxy.log().find("ignoring a datagram")["ignored"], 1);
    let ended = end(proxy);
    assert_eq!(
        ended.log.find("peers acknowledged the goodbye")["acknowledged"],
        0
    );
    let saved = read_json(&ended.directory.path().join("state.json")).unwrap();
    let known = &saved["state"]["peers"][0];
    assert_eq!(
        (&known["id"], &known["gone"]),
        (&json!("other"), &json!(true))
    );
    assert!(
        known["last_seen"].as_u64() > Some(1_000_000_000_000),
        "{known}"
    );

    peer.rest();
    let proxy = Proxy::again(ended.directory, &config);
    assert_eq!(proxy.log().find("state restored")["peers"], 1);
    peer.next("hello");
    let ended = end(proxy);
    assert_eq!(
        ended.log.find("peers acknowledged the goodbye")["acknowledged"],
        0,
        "it is still gone"
    );
    assert!(!peer.rest().contains(&json!("goodbye")));
}

#[test]
fn two_proxies_see_each_other_until_one_leaves() {
    let (one, two) = (Peer::unused_address(), Peer::unused_address());
    let start = |id: &str, listen, tell| {
        Proxy::start(&format!(
            "discovery: {{id: {id}, peers: {{listen: {listen}, tell: [{tell}], hello: 1}}}}"
        ))
    };
    let (first, second) = (start("one", one, two), start("two", two, one));
    assert_eq!(first.log().find("a peer is present")["peer"], "two");
    assert_eq!(second.log().find("a peer is present")["peer"], "one");
    let ended = end(first);
    assert_eq!(
        ended.log.find("peers acknowledged the goodbye")["acknowledged"],
        1
    );
    assert_eq!(second.log().find("a peer said goodbye")["peer"], "one");
    let ended = end(second);
    assert_eq!(
        ended.log.find("peers acknowledged the goodbye")["acknowledged"],
        0
    );
}

#[test]
fn it_is_registered_with_consul_and_deregistered_once() {
    let registry = consul();
    let proxy = Proxy::start(&format!(
        "discovery: {{id: edge-1, service: edge, consul: {{url: http://{}, token: t0ken, ttl: 1}}}}",
        registry.address
    ));
    let call = registry.find("PUT /v1/agent/service/register");
    assert_eq!(call.token.as_deref(), Some("t0ken"));
    assert_eq!(
        (&call.body["ID"], &call.body["Name"]),
        (&json!("edge-1"), &json!("edge"))
    );
    assert_eq!(call.body["Address"], "127.0.0.1");
    assert_eq!(call.body["Port"], proxy.address().port());
    assert_eq!(call.body["Check"]["TTL"], "1s");
    let kept = registry.find("PUT /v1/agent/check/pass/service:edge-1");
    assert_eq!(kept.token.as_deref(), Some("t0ken"));
    assert!(registry.all("PUT /v1/agent/service/deregister").is_empty());
    end(proxy);
    let calls = registry.all("PUT /v1/agent/service/deregister/edge-1");
    assert_eq!(calls.len(), 1, "{calls:?}");
    assert_eq!(calls[0].token.as_deref(), Some("t0ken"));
    let last = registry.all("").pop().unwrap();
    assert_eq!(last.line, calls[0].line, "nothing undoes it");
}

#[test]
fn registration_is_retried_after_a_refusal_and_renewed_after_a_loss() {
    let refused = AtomicUsize::new(0);
    let registry = Registry::start(move |line| {
        let first = |of: usize| refused.fetch_add(1, Ordering::SeqCst) < of;
        if line.contains("/register") && first(2) {
            (500, "no leader")
        } else if line.contains("/check/pass/") {
            (404, "unknown check")
        } else {
            (200, "")
        }
    });
    let proxy = Proxy::start(&format!(
        "discovery: {{consul: {{url: http://{}, ttl: 1}}}}",
        registry.address
    ));
    let refusal = proxy.log().find("not registered yet");
    assert!(
        refusal["error"].as_str().unwrap().contains("no leader"),
        "{refusal}"
    );
    proxy.log().find("the registration was lost");
    eventually("another registration", || {
        (registry.all("PUT /v1/agent/service/register").len() >= 4).then_some(())
    });
    end(proxy);
}

#[test]
fn its_key_in_etcd_is_bound_to_a_lease_that_is_kept_and_revoked() {
    let (down, registry) = (Upstream::unused_address(), etcd());
    let proxy = Proxy::start(&format!(
        "discovery: {{id: edge-1, etcd: {{endpoints: [http://{down}, http://{}], ttl: 1}}}}",
        registry.address
    ));
    let put = registry.find("POST /v3/kv/put").body;
    let text = |value: &Value| {
        let bytes = BASE64_STANDARD.decode(value.as_str().unwrap()).unwrap();
        String::from_utf8(bytes).unwrap()
    };
    assert_eq!(text(&put["key"]), "/services/proxy/edge-1");
    let value: Value = serde_json::from_str(&text(&put["value"])).unwrap();
    assert_eq!(value["port"], proxy.address().port());
    assert_eq!(put["lease"], "7587");
    assert_eq!(registry.find("POST /v3/lease/keepalive").body["ID"], "7587");
    end(proxy);
    let calls = registry.all("POST /v3/lease/revoke");
    assert_eq!(calls.len(), 1, "{calls:?}");
    assert_eq!(calls[0].body["ID"], "7587");
}

#[test]
fn without_a_runner_the_plan_sends_the_goodbyes() {
    let (link, peer, consul, etcd) = (Link::start(), Peer::start(), consul(), etcd());
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("proxy.yaml");
    let text = format!(
        "listen_addrs: [127.0.0.1:0]\n\
         discovery:\n  mdns: {{port: {}}}\n  peers: {{listen: 127.0.0.1:0, tell: [{}]}}\n  \
         consul: {{url: http://{}}}\n  etcd: {{endpoints: [http://{}]}}\n\
         audit: {{path: {}}}\n",
        link.port,
        peer.address,
        consul.address,
        etcd.address,
        directory.path().join("audit.ndjson").display(),
    );
    std::fs::write(&file, text).unwrap();
    let config = Config::load(&file).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut server = runtime.block_on(ProxyServer::start(config)).unwrap();
    assert_eq!(link.next().port, server.addresses()[0].port());
    consul.find("PUT /v1/agent/service/register");
    etcd.find("POST /v3/kv/put");
    assert_eq!(server.peers()[0].address, peer.address);

    let other = std::thread::spawn(move || {
        let (goodbye, from) = peer.next("goodbye");
        peer.send("ack", &goodbye["nonce"], from);
    });
    let report = runtime.block_on(server.shutdown_gracefully(Duration::from_secs(20)));
    let report = report.unwrap();
    for step in ["mdns", "peers", "consul", "etcd"] {
        assert_done(&report, &format!("discovery.{step}"));
    }
    other.join().unwrap();
    link.goodbye();
    assert_eq!(consul.all("PUT /v1/agent/service/deregister").len(), 1);
    assert_eq!(etcd.all("POST /v3/lease/revoke").len(), 1);

    let again = runtime.block_on(server.shutdown_gracefully(Duration::from_secs(20)));
    assert!(again.is_ok());
    let trail = std::fs::read_to_string(directory.path().join("audit.ndjson")).unwrap();
    assert_eq!(trail.lines().count(), 1, "{trail}");
}

#[test]
fn a_server_that_is_dropped_leaves_no_announcement_and_no_socket() {
    let link = Link::start();
    let peers = Peer::unused_address();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("proxy.yaml");
    let text = format!(
        "listen_addrs: [127.0.0.1:0]\n\
         discovery: {{mdns: {{port: {}}}, peers: {{listen: {peers}, tell: []}}}}\n",
        link.port
    );
    std::fs::write(&file, text).unwrap();
    let config = Config::load(&file).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = runtime.block_on(ProxyServer::start(config)).unwrap();
    assert!(link.next().ttl > 0);
    assert!(UdpSocket::bind(peers).is_err());
    drop(server);
    link.goodbye();
    eventually("the end of the socket", || UdpSocket::bind(peers).ok());
}

#[track_caller]
fn assert_done(report: &Report, path: &str) {
    let step = report
        .step(path)
        .unwrap_or_else(|| panic!("no {path}: {report}"));
    assert!(step.outcome().is_done(), "{report}");
}

/// Returns the configuration of a proxy whose upstream refuses connections. Its breaker opens at
/// the first failure.
fn failing() -> String {
    format!(
        "upstream: http://{}\nbreaker: {{failures: 1, open: 600}}\n\
         state: {{file: state.json, every: 1}}\n",
        Upstream::unused_address()
    )
}

fn status(proxy: &Proxy) -> u16 {
    proxy.connect().get("/").0.status
}

#[test]
fn an_open_breaker_stays_open_over_a_restart_for_the_rest_of_its_time() {
    let config = failing();
    let proxy = Proxy::start(&config);
    assert_eq!((status(&proxy), status(&proxy)), (502, 503));
    let ended = end(proxy);
    let path = ended.directory.path().join("state.json");
    let saved = read_json(&path).unwrap();
    assert!(saved["shutdown_at"].is_u64(), "{saved}");
    let breaker = &saved["state"]["breakers"][0];
    assert_eq!(breaker["pause_ms"], 600_000);

    let proxy = Proxy::again(ended.directory, &config);
    let restored = proxy.log().find("state restored");
    assert_eq!(
        (&restored["breakers"], &restored["in_order"]),
        (&json!(1), &json!(true))
    );
    assert_eq!(status(&proxy), 503, "it is open from the first request on");
    let ended = end(proxy);

    // Edits the saved state, as if the breaker's pause were over.
    let mut saved = read_json(&path).unwrap();
    saved["state"]["breakers"][0]["until"] = json!(1);
    std::fs::write(&path, saved.to_string()).unwrap();
    let proxy = Proxy::again(ended.directory, &config);
    assert_eq!(
        (status(&proxy), status(&proxy)),
        (502, 503),
        "one was let through"
    );
    end(proxy);
}

#[test]
fn the_state_is_saved_at_intervals_so_that_a_crash_loses_little() {
    let config = failing();
    let proxy = Proxy::start(&config);
    assert_eq!(status(&proxy), 502);
    let path = proxy.file("state.json");
    eventually("the state on the disk", || {
        let saved = read_json(&path)?;
        saved["state"]["breakers"][0].is_object().then_some(())
    });
    proxy.signal(Signal::KILL);
    let ended = proxy.wait();
    let proxy = Proxy::again(ended.directory, &config);
    assert_eq!(proxy.log().find("state restored")["in_order"], false);
    assert_eq!(status(&proxy), 503);
    end(proxy);
}

#[test]
fn a_changed_build_keeps_the_state_and_a_damaged_file_is_put_aside() {
    let config = failing();
    let proxy = Proxy::start(&config);
    assert_eq!(status(&proxy), 502);
    let ended = end(proxy);
    let path = ended.directory.path().join("state.json");
    let mut saved = read_json(&path).unwrap();
    saved["state"]["breakers"][0]["weight"] = json!(3);
    saved["state"]["sessions"] = json!(["a"]);
    saved["state"].as_object_mut().unwrap().remove("peers");
    std::fs::write(&path, saved.to_string()).unwrap();

    let proxy = Proxy::again(ended.directory, &config);
    assert_eq!(status(&proxy), 503);
    let ended = end(proxy);
    assert_eq!(read_json(&path).unwrap()["state"]["sessions"], json!(["a"]));

    std::fs::write(&path, "{\"format\": \"lifecy").unwrap();
    let proxy = Proxy::again(ended.directory, &config);
    assert_eq!(status(&proxy), 502);
    let ended = end(proxy);
    let files = std::fs::read_dir(ended.directory.path()).unwrap();
    let names: Vec<_> = files
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .collect();
    assert!(
        names
            .iter()
            .any(|name| name.starts_with("state.json.aside-")),
        "{names:?}"
    );
}

#[test]
fn each_shutdown_is_a_line_of_the_audit_trail() {
    let config = "audit: {path: audit.ndjson}\nstate: {file: state.json}";
    let ended = end(Proxy::start(config));
    let proxy = Proxy::again(ended.directory, config);
    proxy.signal(Signal::INT);
    let ended = proxy.wait();
    let text = std::fs::read_to_string(ended.directory.path().join("audit.ndjson")).unwrap();
    let lines: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines.len(), 2, "{text}");
    for line in &lines {
        assert_eq!(
            (&line["component"], &line["exit_code"]),
            (&json!("ProxyServer"), &json!(0))
        );
        let steps = line["steps"].as_array().unwrap();
        let names: Vec<_> = steps
            .iter()
            .map(|step| step["name"].as_str().unwrap())
            .collect();
        for step in ["main", "connections", "saved_state"] {
            assert!(names.contains(&step), "{names:?}");
        }
    }
    assert_ne!(lines[0]["reason"], lines[1]["reason"]);
}

#[test]
fn an_audit_trail_that_cannot_be_written_is_logged_and_changes_nothing_else() {
    let ended = end(Proxy::start("audit: {path: missing/audit}"));
    let line = ended.log.find("appending to the audit trail failed");
    assert!(
        line["error"].as_str().unwrap().contains("No such file"),
        "{line}"
    );
}

#[test]
fn a_state_that_cannot_be_saved_is_a_failed_step() {
    let proxy = Proxy::start("state: {file: missing/state.json}");
    assert_eq!(Client::connect(proxy.address()).get("/").0.status, 200);
    proxy.signal(Signal::TERM);
    let ended = proxy.wait();
    assert_eq!(ended.code(), 1, "{}", ended.log.text());
    assert!(
        ended.report().contains("missing/state.json"),
        "{}",
        ended.report()
    );
}
