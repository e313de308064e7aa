//! Tests of the admin listener: the pages that it shows, and the requests that may begin an action.

mod support;

use rustix::process::Signal;
use serde_json::Value;
use support::client::Response;
use support::{Client, Proxy, Upstream};

const TOKEN: &str = "correct-horse-battery";

fn start(more: &str) -> Proxy {
    Proxy::start(&format!(
        "{more}\nadmin: {{enabled: true, address: \"127.0.0.1:0\", token: {TOKEN}}}\n"
    ))
}

fn ask(proxy: &Proxy, head: &str) -> (Response, String) {
    let mut client = Client::connect(proxy.metrics_address());
    client.send(format!("{head}\r\n\r\n"));
    let (response, body) = client.response();
    (response, String::from_utf8(body).unwrap())
}

fn status(proxy: &Proxy) -> Value {
    let (response, body) = ask(proxy, "GET /status HTTP/1.1\r\nHost: localhost");
    assert_eq!(response.status, 200);
    assert_eq!(response.header("content-type"), Some("application/json"));
    serde_json::from_str(&body).unwrap()
}

/// Returns the name and the data of the next event of a stream. Returns `None` at the end of the
/// stream.
fn event(client: &mut Client) -> Option<(String, Value)> {
    let chunk = String::from_utf8(client.chunk()?).unwrap();
    let field = |name: &str| chunk.lines().find_map(|line| line.strip_prefix(name));
    assert!(chunk.ends_with("\n\n"), "{chunk}");
    let data = serde_json::from_str(field("data: ").unwrap()).unwrap();
    Some((field("event: ").unwrap().to_owned(), data))
}

fn listen(proxy: &Proxy) -> Client {
    let mut client = Client::connect(proxy.metrics_address());
    client.send("GET /events HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n");
    let head = client.response_head();
    assert_eq!(head.status, 200);
    assert_eq!(head.header("content-type"), Some("text/event-stream"));
    client
}

fn step<'a>(snapshot: &'a Value, path: &str) -> Option<&'a Value> {
    let steps = snapshot["shutdown"]["steps"].as_array()?;
    steps.iter().find(|step| step["path"] == path)
}

#[test]
fn the_page_loads_nothing_else_and_runs_only_its_own_scripts() {
    let proxy = start("");
    let (response, page) = ask(&proxy, "GET / HTTP/1.1\r\nHost: localhost:9090");
    assert_eq!(response.status, 200);
    let policy = response.header("content-security-policy").unwrap();
    let nonce = policy.split("script-src 'nonce-").nth(1).unwrap();
    let nonce = nonce.split('\'').next().unwrap();
    assert_eq!(nonce.len(), 32);
    assert!(policy.starts_with("default-src 'none'"), "{policy}");
    for tag in ["<script", "<style"] {
        let tags: Vec<_> = page.match_indices(tag).collect();
        assert_eq!(tags.len(), 1, "{tag}");
        assert!(page.contains(&format!("{tag} nonce=\"{nonce}\">")), "{tag}");
    }
    for (name, value) in [
        ("x-content-type-options", "nosniff"),
        ("x-frame-options", "DENY"),
        ("referrer-policy", "no-referrer"),
        ("cache-control", "no-store"),
        ("cross-origin-resource-policy", "same-origin"),
    ] {
        assert_eq!(response.header(name), Some(value));
    }
    // Removes the namespace of SVG, which looks like an address but is only a name.
    let page = page.replace("http://www.w3.org/2000/svg", "");
    for other in [
        "http://",
        "https://",
        "//cdn",
        "innerHTML",
        " onclick=",
        "{nonce}",
    ] {
        assert!(!page.contains(other), "{other}");
    }
    let (again, _) = ask(&proxy, "GET / HTTP/1.1\r\nHost: localhost:9090");
    let other = again.header("content-security-policy").unwrap();
    assert!(!other.contains(nonce), "a nonce is used once");
}

#[test]
fn the_status_shows_connections_upstreams_and_the_plan() {
    // This upstream reads the request and never answers it.
    let upstream = Upstream::start(|_, client| {
        client.head();
        client.rest();
    });
    let proxy = start(&format!(
        "upstream: http://{}\nbreaker: {{failures: 1, open: 60}}\n\
         routes: [{{path: /down, upstreams: [\"http://127.0.0.1:1\"]}},\n\
         {{path: /cat, stdio: {{command: [cat], sessions: {{}}}}}},\n\
         {{path: /feed, feed: {{url: \"http://127.0.0.1:1/x\"}}}}]",
        upstream.address
    ));
    let before = status(&proxy);
    assert_eq!(
        (&before["phase"], &before["readiness"]),
        (&"serving".into(), &"ready".into())
    );
    assert_eq!(before["upstreams"][0]["route"], "/down");
    let feed = &before["feeds"][0];
    assert_eq!(
        (&feed["route"], &feed["listeners"]),
        (&"/feed".into(), &0.into())
    );
    assert_eq!(before["shutdown"], Value::Null);
    assert_eq!(before["actions"], true);
    assert_eq!(before["programs"][0]["route"], "/cat");

    let mut client = proxy.connect();
    assert_eq!(client.get("/down").0.status, 502);
    client.ask("/x?token=secret");
    let now = support::eventually("the row of a request", || {
        let now = status(&proxy);
        let row = &now["connections"]["rows"][0];
        let does = row["does"].as_str().unwrap_or_default();
        does.starts_with("GET /x, waiting for the upstream for ")
            .then_some(now)
    });
    let peer = client.stream.local_addr().unwrap().to_string();
    let row = &now["connections"]["rows"][0];
    assert_eq!(
        (&row["peer"], &row["protocol"]),
        (&peer.into(), &"HTTP/1".into())
    );
    assert_eq!(now["connections"]["count"], 1);
    let broken = &now["upstreams"][0];
    assert_eq!(
        (&broken["breaker"], &broken["opened"]),
        (&"open".into(), &1.into())
    );
    assert!(broken["pause_ms"].as_u64().unwrap() > 50_000, "{broken}");
    assert_eq!(now["numbers"]["upstream_failures"], 1);
    assert!(!now.to_string().contains("secret"), "{now}");

    let steps = now["plan"]["steps"].as_array().unwrap();
    let named = |name: &str| steps.iter().find(|step| step["name"] == name).unwrap();
    assert_eq!(named("accept")["after"], serde_json::json!(["token"]));
    assert_eq!(named("recorder")["budget_ms"], 3000);
}

#[test]
fn under_an_unknown_host_name_only_metrics_and_probes_are_answered() {
    let proxy = Proxy::start(&format!(
        "admin: {{enabled: true, address: \"127.0.0.1:0\", token: {TOKEN}, hosts: [proxy.internal]}}"
    ));
    let asked = |line: &str, host: &str| {
        let head = format!("{line} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {TOKEN}");
        ask(&proxy, &head)
    };
    for line in ["GET /", "GET /status", "GET /events", "POST /drain"] {
        let (response, text) = asked(line, "evil.example:9090");
        assert_eq!(response.status, 403, "{line}");
        assert!(text.contains("admin.hosts"), "{text}");
    }
    for line in ["GET /metrics", "GET /livez", "GET /readyz"] {
        assert_eq!(asked(line, "evil.example:9090").0.status, 200, "{line}");
    }
    assert_eq!(asked("GET /status", "proxy.internal:9090").0.status, 200);
    assert!(proxy.log().all("no longer listening").is_empty());
}

#[test]
fn only_the_token_allows_a_drain() {
    let proxy = start("");
    let drain = |more: &str| {
        ask(
            &proxy,
            &format!("POST /drain HTTP/1.1\r\nHost: localhost{more}"),
        )
    };
    for more in [
        "",
        "\r\nAuthorization: Bearer wrong-horse-battery",
        "\r\nCookie: token=correct-horse-battery",
    ] {
        let (response, text) = drain(more);
        assert_eq!(response.status, 401, "{more}: {text}");
        assert_eq!(response.header("www-authenticate"), Some("Bearer"));
    }
    let (response, _) = ask(
        &proxy,
        &format!("GET /drain HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}"),
    );
    assert_eq!(
        (response.status, response.header("allow")),
        (405, Some("POST"))
    );
    assert_eq!(status(&proxy)["phase"], "serving");

    let (response, text) = drain(&format!("\r\nAuthorization: Bearer {TOKEN}"));
    assert_eq!((response.status, &*text), (202, "draining\n"));
    let ended = proxy.wait();
    assert_eq!(ended.code(), 0, "{}", ended.log.text());
    assert!(
        ended.report().contains("(requested): clean"),
        "{}",
        ended.report()
    );
    assert!(!ended.log.text().contains(TOKEN));
}

#[test]
fn without_a_token_no_drain_is_allowed_and_a_token_file_counts() {
    let proxy = Proxy::start("admin: {enabled: true, address: \"127.0.0.1:0\"}");
    let request =
        format!("POST /drain HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}");
    let (response, text) = ask(&proxy, &request);
    assert_eq!(response.status, 403);
    assert!(text.contains("admin.token"), "{text}");
    assert_eq!(status(&proxy)["actions"], false);

    let proxy = Proxy::start("admin: {enabled: true, address: \"127.0.0.1:0\", token_file: token}");
    assert_eq!(ask(&proxy, &request).0.status, 503, "there is no file yet");
    std::fs::write(proxy.file("token"), "an-older-token-of-theirs\n").unwrap();
    assert_eq!(ask(&proxy, &request).0.status, 401);
    std::fs::write(proxy.file("token"), format!("{TOKEN}\n")).unwrap();
    assert_eq!(ask(&proxy, &request).0.status, 202);
    assert_eq!(proxy.wait().code(), 0);
}

#[test]
fn the_feed_tells_of_a_shutdown_step_by_step_and_ends_after_an_event() {
    let proxy = start("lame_duck: 1");
    let mut client = proxy.connect();
    client.ask("/slow?seconds=3");
    let head = client.response_head();
    let mut feed = listen(&proxy);
    let (name, first) = event(&mut feed).unwrap();
    assert_eq!((&*name, &first["phase"]), ("snapshot", &"serving".into()));

    let (response, _) = ask(
        &proxy,
        &format!("POST /drain HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {TOKEN}"),
    );
    assert_eq!(response.status, 202);
    let mut seen = Vec::new();
    while let Some((name, snapshot)) = event(&mut feed) {
        seen.push((name, snapshot));
    }
    client.body(&head.head);

    let first = |phase: &str| {
        let found = seen.iter().find(|(_, snapshot)| snapshot["phase"] == phase);
        &found.unwrap_or_else(|| panic!("{phase}: {seen:?}")).1
    };
    let lame = step(first("lame_duck"), "lame_duck").unwrap();
    assert_eq!(lame["state"], "running");
    let left = lame["remaining_ms"].as_u64().unwrap();
    assert!(left <= 1000, "{lame}");
    assert_eq!(first("draining")["readiness"], "draining");
    let peer = client.stream.local_addr().unwrap().to_string();
    let waits = seen.iter().find_map(|(_, snapshot)| {
        let step = step(snapshot, "connections")?;
        // Waits for the note, too: a snapshot may come between the start of the step and its first
        // `waiting_for`.
        (step["state"] == "running" && step["note"].is_string()).then_some(step)
    });
    let waits = waits.unwrap_or_else(|| panic!("{seen:?}"));
    assert!(waits["note"].as_str().unwrap().contains(&peer), "{waits}");
    assert!(waits["remaining_ms"].as_u64().unwrap() > 1000, "{waits}");

    let (name, last) = seen.last().unwrap();
    assert_eq!(name, "last");
    assert_eq!(seen.iter().filter(|(name, _)| name == "last").count(), 1);
    for path in [
        "lame_duck",
        "main",
        "token",
        "connections",
        "recorder",
        "metrics",
    ] {
        let step = step(last, path).unwrap();
        let state = step["state"].as_str().unwrap();
        assert!(["done", "empty"].contains(&state), "{path}: {last}");
    }
    let drained = step(last, "connections").unwrap();
    let took = |key: &str| drained[key].as_u64().unwrap();
    assert!(
        took("started_ms") >= 1000 && took("elapsed_ms") > 500,
        "{drained}"
    );
    assert_eq!(step(last, "admin").unwrap()["state"], "running");
    let ended = proxy.wait();
    assert_eq!(ended.code(), 0);
    assert!(!ended.report().contains("cut at"), "{}", ended.report());
}

#[test]
fn a_feed_outlives_the_limit_for_silent_connections() {
    let proxy = start("timeouts: {idle: 1}");
    let mut feed = listen(&proxy);
    for _ in 0..5 {
        assert_eq!(event(&mut feed).unwrap().0, "snapshot");
    }
    proxy.signal(Signal::TERM);
    while event(&mut feed).is_some() {}
    assert_eq!(proxy.wait().code(), 0);
}

#[test]
fn an_unknown_path_is_answered_with_the_known_paths() {
    let proxy = start("");
    let (response, text) = ask(&proxy, "GET /favicon.ico HTTP/1.1\r\nHost: localhost");
    assert_eq!(response.status, 404);
    assert!(
        text.contains("/status") && text.contains("/metrics"),
        "{text}"
    );
    let (response, _) = ask(&proxy, "DELETE /metrics HTTP/1.1\r\nHost: localhost");
    assert_eq!(response.status, 405);
}
