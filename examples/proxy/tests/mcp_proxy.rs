//! Tests of programs that speak JSON-RPC on their standard streams: one process serves many
//! requests, no process is left over, and all parts end in order.

mod support;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use support::{Client, Ended, Proxy, eventually};

/// A script that answers every line with its own process id and the request.
const TELL: &str = r#"while read -r line; do
      id=${line#*\"id\":}; id=${id%%,*}
      printf '{"jsonrpc":"2.0","method":"log","params":["noise"]}\n'
      printf '{"jsonrpc":"2.0","id":%s,"result":{"pid":%s,"asked":%s}}\n' "$id" $$ "$line"
    done"#;

/// Returns a configuration with `script` as the program at `/mcp`, and with the settings `more`.
fn config(script: &str, more: &str) -> String {
    let command = json!(["sh", "-c", script]);
    format!(
        "routes:\n- path: /mcp\n  stdio: {{command: {command}, {more}}}\n\
         recorder: {{path: tape.ndjson}}\n\
         metrics: {{enabled: true, address: \"127.0.0.1:0\", file: numbers.json}}\n"
    )
}

fn post(client: &mut Client, body: &str) -> (u16, Vec<u8>) {
    client.send(format!(
        "POST /mcp HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    ));
    let (response, body) = client.response();
    (response.status, body)
}

fn call(client: &mut Client, id: &str) -> Value {
    let body = format!("{{\"jsonrpc\": \"2.0\",\n \"id\": {id}, \"method\": \"tell\"}}");
    let (status, body) = post(client, &body);
    assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
    serde_json::from_slice(&body).unwrap()
}

fn pid(client: &mut Client) -> u64 {
    call(client, "1")["result"]["pid"].as_u64().unwrap()
}

fn exists(pid: u64) -> bool {
    std::path::Path::new(&format!("/proc/{pid}")).exists()
}

fn numbers(ended: &Ended) -> Value {
    let text = std::fs::read_to_string(ended.directory.path().join("numbers.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

#[test]
fn many_requests_of_many_clients_are_answered_by_one_process() {
    let proxy = Proxy::start(&config(TELL, "processes: 4"));
    let first = pid(&mut proxy.connect());
    for id in ["7", "\"text\"", "-1"] {
        let mut client = proxy.connect();
        let answer = call(&mut client, id);
        assert_eq!(answer["id"], serde_json::from_str::<Value>(id).unwrap());
        assert_eq!(answer["result"]["asked"]["method"], "tell");
        for _ in 0..20 {
            assert_eq!(pid(&mut client), first);
        }
    }
    let text = proxy.metrics();
    assert!(
        text.contains("proxy_processes_started_total{program=\"sh\",route=\"0\"} 1\n"),
        "{text}"
    );
    proxy.signal(Signal::TERM);
    let ended = proxy.wait();
    assert_eq!(ended.code(), 0, "{}", ended.log.text());
    assert!(!exists(first), "no process and no zombie");
    assert_eq!(numbers(&ended)["processes_started"], 1);
    assert_eq!(numbers(&ended)["tape_written"], 64);
}

#[test]
fn invalid_calls_are_refused_before_they_reach_a_process() {
    let proxy = Proxy::start(&config(TELL, "max_message: 200"));
    let mut client = proxy.connect();
    client.ask("/mcp");
    let (response, _) = client.response();
    assert_eq!(
        (response.status, response.header("allow")),
        (405, Some("POST"))
    );
    for (body, status) in [
        ("not json".to_owned(), 400),
        (
            format!("{{\"jsonrpc\":\"2.0\",\"method\":\"{}\"}}", "x".repeat(200)),
            413,
        ),
    ] {
        assert_eq!(post(&mut proxy.connect(), &body).0, status);
    }
    let notification = "{\"jsonrpc\":\"2.0\",\"method\":\"note\"}";
    assert_eq!(post(&mut proxy.connect(), notification), (202, vec![]));
}

#[test]
fn a_process_that_dies_fails_its_request_only() {
    let mortal =
        r#"read -r line; printf '{"jsonrpc":"2.0","id":1,"result":{"pid":%s}}\n' $$; read -r line"#;
    let proxy = Proxy::start(&config(mortal, "processes: 1"));
    let mut client = proxy.connect();
    let first = pid(&mut client);
    let (status, text) = post(
        &mut client,
        "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"m\"}",
    );
    assert_eq!(status, 502, "{}", String::from_utf8_lossy(&text));
    let second = pid(&mut client);
    assert_ne!(first, second);
    let raw = Pid::from_raw(i32::try_from(second).unwrap()).unwrap();
    kill_process(raw, Signal::KILL).unwrap();
    eventually("the end of the process", || (!exists(second)).then_some(()));
    assert_ne!(pid(&mut client), second);
}

#[test]
fn a_process_that_ignores_its_end_is_killed_with_its_group_and_the_step_says_so() {
    let stubborn = r#"trap '' TERM; sleep 1000 & read -r line
        printf '{"jsonrpc":"2.0","id":1,"result":{"pid":%s,"child":%s}}\n' $$ $!
        while :; do sleep 1000; done"#;
    let proxy = Proxy::start(&format!(
        "{}shutdown_timeout: 12\n",
        config(stubborn, "stop: 60")
    ));
    let result = call(&mut proxy.connect(), "1")["result"].clone();
    proxy.signal(Signal::TERM);
    let ended = proxy.wait();
    assert_eq!(ended.code(), 1, "{}", ended.log.text());
    assert!(
        ended.report().contains("had to be killed: 1 process"),
        "{}",
        ended.report()
    );
    assert!(!exists(result["pid"].as_u64().unwrap()));
    // Only the end of the grandchild is checked: it is an orphan, which a process outside of the
    // test reaps.
    let child = result["child"].as_u64().unwrap();
    eventually("the end of the group", || {
        let stat = std::fs::read_to_string(format!("/proc/{child}/stat"));
        stat.map_or(true, |stat| stat.contains(") Z "))
            .then_some(())
    });
    assert_eq!(numbers(&ended)["requests"], 1, "later steps run");
}

#[test]
fn a_call_that_is_under_way_when_the_proxy_is_told_to_end_is_answered() {
    let slow = r#"read -r line; sleep 1; printf '{"jsonrpc":"2.0","id":1,"result":{"pid":%s}}\n' $$; read -r line"#;
    let proxy = Proxy::start(&config(slow, "processes: 1"));
    let mut client = proxy.connect();
    let body = "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"m\"}";
    client.send(format!(
        "POST /mcp HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    ));
    eventually("the process", || {
        proxy
            .metrics()
            .contains("proxy_processes_running{program=\"sh\",route=\"0\"} 1\n")
            .then_some(())
    });
    proxy.drain();
    assert_eq!(client.response().0.status, 200);
    let ended = proxy.wait();
    assert_eq!(ended.code(), 0, "{}", ended.log.text());
    // The report lists the parts in the order in which they have ended.
    let report = ended.report();
    let steps = [
        "connections",
        "background",
        "recorder",
        "stdio",
        "pool",
        "metrics",
        "admin",
    ];
    let rows = report.lines().filter(|line| !line.starts_with("   "));
    let rows = rows.filter_map(|line| line.split_whitespace().next());
    let ended: Vec<_> = rows.filter(|step| steps.contains(step)).collect();
    assert_eq!(ended, steps, "{report}");
}

/// A script that counts its calls and sends a notification for each. It creates a temporary file,
/// answers with the path of its socket, and writes to standard error.
const COUNT: &str = r#"file=$(mktemp); n=0; echo "I am $$" >&2; while read -r line; do
      id=${line#*\"id\":}; id=${id%%,*}; n=$((n + 1))
      printf '{"jsonrpc":"2.0","method":"counted","params":[%s]}\n' $n
      printf '{"jsonrpc":"2.0","id":%s,"result":{"pid":%s,"count":%s,"file":"%s","socket":"%s"}}\n' \
        "$id" $$ $n "$file" "$MCP_SESSION_SOCKET"
    done"#;

/// The settings of sessions, with a value for each of them.
const EVERYTHING: &str = "most: 2, socket: true, log: logs";

/// Calls `method` in `session`, or without a session. Returns the answer, and the name of the
/// session that the answer begins.
fn in_session(proxy: &Proxy, method: &str, session: Option<&str>) -> (u16, Option<String>, Value) {
    let body = format!("{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"{method}\"}}");
    let session = session.map(|name| format!("Mcp-Session-Id: {name}\r\n"));
    let mut client = proxy.connect();
    client.send(format!(
        "POST /mcp HTTP/1.1\r\nHost: a\r\n{}Content-Length: {}\r\n\r\n{body}",
        session.unwrap_or_default(),
        body.len()
    ));
    let (response, body) = client.response();
    let session = response.header("mcp-session-id").map(str::to_owned);
    let answer = serde_json::from_slice::<Value>(&body);
    let result = answer.map_or(Value::Null, |mut answer| answer["result"].take());
    (response.status, session, result)
}

fn has_ended(result: &Value) -> bool {
    let file = std::path::Path::new(result["file"].as_str().unwrap());
    !exists(result["pid"].as_u64().unwrap()) && !file.exists() && !file.parent().unwrap().exists()
}

/// Returns the numbers of descriptors that the proxy has open, by their kind.
fn descriptors(proxy: &Proxy) -> std::collections::BTreeMap<String, usize> {
    let mut kinds = std::collections::BTreeMap::new();
    let links = std::fs::read_dir(format!("/proc/{}/fd", proxy.id())).unwrap();
    for link in links.filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok()) {
        let kind = link.to_str().unwrap().split(':').next().unwrap().to_owned();
        *kinds.entry(kind).or_default() += 1;
    }
    kinds
}

/// The descriptors that a proxy has open while it is idle.
struct IdleDescriptors {
    scraper: Client,
    descriptors: std::collections::BTreeMap<String, usize>,
}

impl IdleDescriptors {
    /// Waits until all connections and processes have ended. Then counts the descriptors.
    fn of(proxy: &Proxy) -> Self {
        let mut scraper = Client::connect(proxy.metrics_address());
        eventually("that nobody uses it", || is_quiet(&mut scraper));
        Self {
            scraper,
            descriptors: descriptors(proxy),
        }
    }

    /// Waits until the proxy has as many open descriptors as in the first count.
    fn expect_same(&mut self, proxy: &Proxy) {
        eventually("the descriptors of before", || {
            is_quiet(&mut self.scraper)?;
            (descriptors(proxy) == self.descriptors).then_some(())
        });
    }
}

fn is_quiet(scraper: &mut Client) -> Option<()> {
    let text = String::from_utf8(scraper.get("/metrics").1).unwrap();
    let idle_descriptors = text.contains("proxy_connections_active 0\n")
        && text.contains("proxy_processes_running{program=\"sh\",route=\"0\"} 0\n");
    idle_descriptors.then_some(())
}

/// Starts the proxy with the program [`COUNT`], and waits until a first session has ended.
fn with_sessions(sessions: &str) -> (Proxy, IdleDescriptors) {
    let proxy = Proxy::start(&config(COUNT, &format!("sessions: {{{sessions}}}")));
    let (_, session, first) = in_session(&proxy, "initialize", None);
    end(&proxy, &session.unwrap());
    eventually("the end of the session", || has_ended(&first).then_some(()));
    let idle_descriptors = IdleDescriptors::of(&proxy);
    (proxy, idle_descriptors)
}

/// Closes the connection with a reset.
fn reset(client: Client) {
    rustix::net::sockopt::set_socket_linger(&client.stream, Some(std::time::Duration::ZERO))
        .unwrap();
}

fn end(proxy: &Proxy, session: &str) {
    let mut client = proxy.connect();
    client.send(format!(
        "DELETE /mcp HTTP/1.1\r\nHost: a\r\nMcp-Session-Id: {session}\r\n\r\n"
    ));
    assert_eq!(client.response_head().status, 204);
}

/// Connects a client that listens to the notifications of a session.
fn listen(proxy: &Proxy, session: &str, last: &str) -> Client {
    let mut client = proxy.connect();
    client.send(format!(
        "GET /mcp HTTP/1.1\r\nHost: a\r\nMcp-Session-Id: {session}\r\n{last}\r\n"
    ));
    let response = client.response_head();
    assert_eq!(response.status, 200, "{response:?}");
    assert_eq!(response.header("content-type"), Some("text/event-stream"));
    client
}

/// Returns the number and the content of the next message. Returns `None` at the end of the stream.
fn message(client: &mut Client) -> Option<(u64, Value)> {
    let text = client.event()?;
    let (data, id) = text.trim_end().split_once("\nid: ").unwrap();
    let data = data.strip_prefix("data: ").unwrap();
    Some((id.parse().unwrap(), serde_json::from_str(data).unwrap()))
}

#[test]
fn notifications_of_a_session_reach_its_client_and_no_other() {
    let (proxy, mut idle_descriptors) = with_sessions(EVERYTHING);
    let (_, one, result) = in_session(&proxy, "initialize", None);
    let (_, two, _) = in_session(&proxy, "initialize", None);
    let (one, two) = (one.unwrap(), two.unwrap());
    let mut client = listen(&proxy, &one, "");
    let mut other = listen(&proxy, &two, "");
    in_session(&proxy, "x", Some(&one));
    let (id, said) = message(&mut client).unwrap();
    assert_eq!((id, &said["params"][0]), (2, &json!(2)));
    // Any process that knows the socket's path may write to the socket, at any time.
    let socket = result["socket"].as_str().unwrap();
    let mut child = std::os::unix::net::UnixStream::connect(socket).unwrap();
    let progress = "{\"jsonrpc\":\"2.0\",\"method\":\"progress\",\"params\":{\"a\":1}}\n";
    let nobody_answers = "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ask\"}\nnonsense\n";
    std::io::Write::write_all(&mut child, nobody_answers.as_bytes()).unwrap();
    std::io::Write::write_all(&mut child, progress.as_bytes()).unwrap();
    let (id, said) = message(&mut client).unwrap();
    assert_eq!((id, said), (3, serde_json::from_str(progress).unwrap()));
    // A client that reconnects gets the messages that it has missed.
    drop(client);
    let mut again = listen(&proxy, &one, "Last-Event-ID: 1\r\n");
    assert_eq!(message(&mut again).unwrap().0, 2);
    assert_eq!(message(&mut again).unwrap().0, 3);
    // The end of the session closes its socket, even for processes that still have it open.
    end(&proxy, &one);
    assert_eq!(message(&mut again), None);
    eventually("the end of the session", || {
        has_ended(&result).then_some(())
    });
    let left = std::io::Write::write_all(&mut child, progress.as_bytes());
    assert!(left.is_err(), "nobody reads it");
    end(&proxy, &two);
    assert_eq!(message(&mut other), None, "the other one heard none of it");
    drop((again, other));
    idle_descriptors.expect_same(&proxy);
    let refused = in_session(&proxy, "x", Some(&one));
    assert_eq!(refused.0, 404);
}

#[test]
fn a_session_has_a_log_which_stays() {
    let (proxy, _) = with_sessions("log: logs/sessions");
    let (_, session, result) = in_session(&proxy, "initialize", None);
    let logs = || {
        let files = std::fs::read_dir(proxy.file("logs/sessions")).unwrap();
        let text = |file: std::io::Result<std::fs::DirEntry>| file.map(|it| it.path());
        files.map(text).map(Result::unwrap).collect::<Vec<_>>()
    };
    assert_eq!(logs().len(), 2, "the first one's is still there");
    let line = format!("I am {}\n", result["pid"]);
    let is_of_it = |path: &std::path::PathBuf| std::fs::read_to_string(path).unwrap() == line;
    eventually("its line", || logs().iter().any(is_of_it).then_some(()));
    for path in logs() {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        assert!(
            !name.contains(session.as_ref().unwrap()),
            "a name is a secret"
        );
        let mode = std::os::unix::fs::PermissionsExt::mode(&path.metadata().unwrap().permissions());
        assert_eq!(mode & 0o77, 0);
    }
}

#[test]
fn a_session_has_a_process_and_temporary_files_of_its_own_which_end_with_it() {
    let proxy = Proxy::start(&config(COUNT, "sessions: {most: 2}"));
    let (_, one, first) = in_session(&proxy, "initialize", None);
    let (_, two, other) = in_session(&proxy, "initialize", None);
    let (one, two) = (one.unwrap(), two.unwrap());
    assert_ne!(first["pid"], other["pid"]);
    assert!(std::path::Path::new(first["file"].as_str().unwrap()).exists());
    assert_eq!(in_session(&proxy, "x", Some(&one)).2["count"], 2);
    assert_eq!(in_session(&proxy, "x", Some(&one)).2["count"], 3);
    assert_eq!(in_session(&proxy, "x", Some(&two)).2["count"], 2);
    assert_eq!(
        in_session(&proxy, "x", None).2["count"],
        1,
        "a process of the pool"
    );
    assert_eq!(
        in_session(&proxy, "initialize", None).0,
        503,
        "no more than allowed"
    );
    assert_eq!(in_session(&proxy, "x", Some("guessed")).0, 404);

    end(&proxy, &one);
    assert_eq!(in_session(&proxy, "x", Some(&one)).0, 404);
    eventually("the end of the session", || has_ended(&first).then_some(()));
    let text = proxy.metrics();
    assert!(
        text.contains("proxy_sessions_active{program=\"sh\",route=\"0\"} 1\n"),
        "{text}"
    );

    proxy.signal(Signal::TERM);
    let ended = proxy.wait();
    assert_eq!(ended.code(), 0, "{}", ended.log.text());
    assert!(has_ended(&other), "with the proxy at the latest");
}

#[test]
fn a_session_that_is_not_used_expires_with_all_it_has() {
    let (proxy, mut idle_descriptors) = with_sessions(&format!("{EVERYTHING}, idle: 1"));
    let (_, session, result) = in_session(&proxy, "initialize", None);
    let (_, listened, held) = in_session(&proxy, "initialize", None);
    let client = listen(&proxy, &listened.unwrap(), "");
    eventually("the end of the session", || {
        has_ended(&result).then_some(())
    });
    assert_eq!(in_session(&proxy, "x", session.as_deref()).0, 404);
    // The session whose client listens does not expire. The unused session has ended, and the place
    // is free once its directory was removed.
    let next = eventually("a free place", || {
        let (status, _, result) = in_session(&proxy, "initialize", None);
        (status == 200).then_some(result)
    });
    eventually("the end of a later one", || has_ended(&next).then_some(()));
    assert!(!has_ended(&held));
    reset(client);
    eventually("the end of that too", || has_ended(&held).then_some(()));
    idle_descriptors.expect_same(&proxy);
}

#[test]
fn a_session_whose_client_leaves_in_a_call_ends_with_all_it_has() {
    let mute = r#"file=$(mktemp); read -r line
        printf '{"jsonrpc":"2.0","id":1,"result":{"pid":%s,"file":"%s"}}\n' $$ "$file"
        read -r line; printf called > "$file"; read -r line"#;
    let proxy = Proxy::start(&config(mute, &format!("sessions: {{{EVERYTHING}}}")));
    let (_, session, result) = in_session(&proxy, "initialize", None);
    let session = session.unwrap();
    let mut client = proxy.connect();
    let body = "{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"m\"}";
    client.send(format!(
        "POST /mcp HTTP/1.1\r\nHost: a\r\nMcp-Session-Id: {session}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    ));
    eventually("the call", || {
        let text = std::fs::read_to_string(result["file"].as_str().unwrap());
        (text.unwrap() == "called").then_some(())
    });
    drop(client);
    eventually("the end of the session", || {
        has_ended(&result).then_some(())
    });
    assert_eq!(in_session(&proxy, "m", Some(&session)).0, 404);
}
