use super::*;

#[test]
fn an_empty_file_is_all_defaults() {
    for text in ["", "# nothing\n", "---\n"] {
        assert_eq!(Config::parse(text).unwrap(), Config::default(), "{text:?}");
    }
}

#[test]
fn a_file_with_only_the_older_fields_loads() {
    let config = Config::parse(
        "listen_addrs:\n  - 0.0.0.0:8443\n  - \"[::]:8443\"\n\
         timeouts:\n  connect: 5\n  client_hello: 3\n  idle: 120\n\
         metrics:\n  enabled: true\n  address: 127.0.0.1:9100\n",
    )
    .unwrap();
    assert_eq!(config.listen_addrs.len(), 2);
    assert_eq!(config.timeouts.connect, Seconds::of(5));
    assert_eq!(config.timeouts.client_hello, Seconds::of(3));
    assert_eq!(config.timeouts.idle, Seconds::of(120));
    assert!(config.metrics.enabled);
    assert_eq!(config.metrics.address.port(), 9100);
    assert_eq!(config.max_connections.get(), 10_000);
    assert_eq!(config.shutdown_timeout, Seconds::of(30));
    assert_eq!(config.upstream, None);
    assert_eq!(config.recorder, Recorder::default());
}

#[test]
fn mistakes_are_reported_with_their_line() {
    for (text, line, part) in [
        (
            "max_connections: 5\nshutdown_timeot: 3\n",
            "line 2",
            "shutdown_timeot",
        ),
        ("timeouts:\n  idle: soon\n", "line 2", "a whole number"),
        (
            "timeouts:\n  connect: 1\n  idle: 0\n",
            "line 3",
            "from 1 to",
        ),
        ("max_connections: 0\n", "line 1", "from 1 to 1000000"),
        ("\nshutdown_timeout: 4000\n", "line 2", "3600"),
        ("\n\nupstream: https://a\n", "line 3", "TLS"),
        ("listen_addrs: [nowhere]\n", "line 1", "socket address"),
        ("recorder:\n  path: a\n  path: b\n", "line 3", "twice"),
        ("metrics: [\n", "line", ""),
        (
            "routes:\n  - path: /a\n",
            "line 2",
            "`upstreams`, `stdio` or `feed`",
        ),
        ("routes:\n  - path: a\n", "line 2", "begin with `/`"),
        (
            "routes:\n  - upstreams: [http://a]\n    stdio: {command: [b]}\n",
            "line 2",
            "exclude each other",
        ),
        ("routes:\n  - stdio: {command: []}\n", "line 2", "program"),
        (
            "routes:\n  - upstreams: [http://a]\n    sticky: {cookie: a b}\n",
            "line 3",
            "not a valid cookie name",
        ),
        (
            "routes:\n  - feed: {url: http://a}\n    sticky: {header: x}\n",
            "line 2",
            "`sticky` needs `upstreams`",
        ),
        ("routes:\n  - feed: {url: /events}\n", "line 2", "http://"),
        ("routes:\n  - host: a b\n", "line 2", "not a host name"),
        (
            "limits:\n  tasks: {soft: 9, hard: 8}\n",
            "line 2",
            "at most `hard`",
        ),
    ] {
        let message = Config::parse(text).unwrap_err();
        assert!(message.contains(line), "{text:?} gave {message}");
        assert!(message.contains(part), "{text:?} gave {message}");
    }
}

#[test]
fn routes_are_read_with_their_defaults() {
    let config = Config::parse(
        "routes:\n\
         - host: \"*.example\"\n  upstreams: [http://a, h2c://b:1]\n  health: {path: /up}\n\
         - path: /mcp\n  stdio: {command: [server, --quiet], processes: 2}\n",
    )
    .unwrap();
    let [http, stdio] = &config.routes[..] else {
        panic!("{config:?}");
    };
    assert_eq!(http.path.as_str(), "/");
    let Target::Upstreams(upstreams, Some(health)) = &http.target else {
        panic!("{http:?}");
    };
    assert!(!upstreams[0].is_http2() && upstreams[1].is_http2());
    assert_eq!(
        (health.path.as_str(), health.interval),
        ("/up", Seconds::of(5))
    );
    let Target::Stdio(program) = &stdio.target else {
        panic!("{stdio:?}");
    };
    assert_eq!(
        (program.processes.get(), program.idle),
        (2, Seconds::of(300))
    );
}

#[test]
fn empty_lists_are_refused_with_their_line() {
    for (text, part) in [
        ("\nlisten_addrs: []\n", "`listen_addrs`"),
        ("\ntls: {listen_addrs: ['127.0.0.1:1']}\n", "`tls.allow`"),
    ] {
        let message = Config::parse(text).unwrap_err();
        assert!(
            message.contains(part) && message.contains("line 2"),
            "{message}"
        );
    }
}

#[test]
fn an_upstream_is_a_scheme_and_an_authority() {
    for good in [
        "http://127.0.0.1:3000",
        "http://app",
        "http://[::1]:80/",
        "h2c://app",
    ] {
        let upstream: Upstream = good.parse().unwrap();
        assert_eq!(upstream.to_string(), good.trim_end_matches('/'));
    }
    for (bad, fault) in [
        ("127.0.0.1:3000", "http://"),
        ("https://app", "TLS"),
        ("http://app/base", "path"),
        ("http://app?x", "path"),
        ("http://me@app", "user"),
        ("/app", "http://"),
        ("not a url", "URL"),
        ("http://app:0", "65535"),
        ("http://app:99999", "65535"),
        ("http://app:", "65535"),
        ("http://app:x", "65535"),
        ("http://app#x", "fragment"),
        ("http://app/#x", "fragment"),
        ("http://:80", "host"),
    ] {
        let error = bad.parse::<Upstream>().unwrap_err().to_string();
        assert!(error.contains(fault), "{bad} gave {error}");
    }
}

#[test]
fn a_number_out_of_bounds_is_refused_with_bound_and_line() {
    let huge = u64::MAX;
    for (before, field) in [
        ("", "max_connections: {}"),
        ("", "shutdown_timeout: {}"),
        ("", "lame_duck: {}"),
        ("timeouts:", "  connect: {}"),
        ("timeouts:", "  client_hello: {}"),
        ("timeouts:", "  idle: {}"),
        ("timeouts:", "  response: {}"),
        ("timeouts:", "  pool_idle: {}"),
        ("restart:", "  ready_within: {}"),
        ("restart:", "  linger: {}"),
        ("breaker:", "  failures: {}"),
        ("breaker:", "  open: {}"),
        ("limits:", "  memory_mib: {soft: 1, hard: {}}"),
        ("limits:", "  tasks: {soft: {}, hard: {}}"),
        ("websocket:", "  ping: {}"),
        ("recorder:", "  queue: {}"),
        ("recorder:", "  max_bytes: {}"),
        ("recorder:", "  keep: {}"),
        ("state:", "  every: {}"),
        ("discovery:", "  timeout: {}"),
        ("discovery:", "  mdns: {port: {}}"),
        (
            "discovery:",
            "  peers: {listen: '127.0.0.1:1', tell: [], hello: {}}",
        ),
        ("discovery:", "  consul: {url: 'http://a:1', ttl: {}}"),
        ("discovery:", "  etcd: {endpoints: ['http://a:1'], ttl: {}}"),
        (
            "routes:",
            "- {upstreams: [http://a], health: {path: /, interval: {}}}",
        ),
        (
            "routes:",
            "- {upstreams: [http://a], sticky: {cookie: a, idle: {}}}",
        ),
        (
            "routes:",
            "- {upstreams: [http://a], sticky: {cookie: a, most: {}}}",
        ),
        ("routes:", "- {stdio: {command: [a], processes: {}}}"),
        ("routes:", "- {stdio: {command: [a], idle: {}}}"),
        ("routes:", "- {stdio: {command: [a], stop: {}}}"),
        ("routes:", "- {stdio: {command: [a], max_message: {}}}"),
        ("routes:", "- {stdio: {command: [a], sessions: {most: {}}}}"),
        ("routes:", "- {stdio: {command: [a], sessions: {idle: {}}}}"),
        ("routes:", "- {feed: {url: http://a, queue: {}}}"),
        ("routes:", "- {feed: {url: http://a, replay: {}}}"),
        ("routes:", "- {feed: {url: http://a, max_event: {}}}"),
        ("routes:", "- {feed: {url: http://a, idle: {}}}"),
    ] {
        for number in [
            huge.to_string(),
            (huge / 2).to_string(),
            "-1".into(),
            "1.5".into(),
        ] {
            let text = format!("{before}\n{}\n", field.replace("{}", &number));
            let message = Config::parse(&text).unwrap_err();
            assert!(message.contains("line 2"), "{text} gave {message}");
        }
    }
}
