//! Tests of affinity: a client stays with its upstream. The client is known by a cookie of the
//! proxy, or by a header field of the application.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::process::Signal;
use support::client::{Response, header};
use support::{Client, Proxy, Upstream, eventually};

/// Starts an upstream that answers with its name as the body, and with the header fields `fields`.
fn named(name: &'static str, fields: &'static str) -> Upstream {
    Upstream::start(move |_, client| answer(client, name, fields))
}

fn answer(client: &mut Client, name: &str, fields: &str) {
    while let Some(head) = client.next_head() {
        let status = header(&head, "x-status").unwrap_or("200");
        client.send(format!(
            "HTTP/1.1 {status} x\r\n{fields}Content-Length: {}\r\n\r\n{name}",
            name.len()
        ));
    }
}

fn proxy(upstreams: &[&Upstream], sticky: &str) -> Proxy {
    let addresses = upstreams.iter().map(|upstream| upstream.address);
    let urls: Vec<_> = addresses.map(|to| format!("http://{to}")).collect();
    Proxy::start(&format!(
        "routes:\n- path: /app\n  upstreams: {urls:?}\n  sticky: {{{sticky}}}\n  \
         health: {{path: /up, interval: 1}}\n\
         metrics: {{enabled: true, address: \"127.0.0.1:0\"}}\n"
    ))
}

/// Sends a request with the header fields `fields`. Returns the response and the name of the
/// upstream that answered.
fn ask(proxy: &Proxy, method: &str, fields: &str) -> (Response, String) {
    let mut client = proxy.connect();
    client.send(format!("{method} /app HTTP/1.1\r\nHost: a\r\n{fields}\r\n"));
    let (response, body) = client.response();
    (response, String::from_utf8(body).unwrap())
}

fn answered_by(proxy: &Proxy, fields: &str) -> String {
    ask(proxy, "GET", fields).1
}

/// Returns the cookie of a response, in the form for the `Cookie` field of a request.
fn cookie(response: &Response) -> String {
    let set = response.header("set-cookie").unwrap();
    let (pair, rest) = set.split_once(';').unwrap();
    assert_eq!(rest, " Path=/app; HttpOnly; SameSite=Lax");
    let value = pair.strip_prefix("whose=").unwrap();
    assert!(value.len() == 32 && value.bytes().all(|byte| byte.is_ascii_hexdigit()));
    format!("Cookie: x=1; {pair}; y=2\r\n")
}

fn active(proxy: &Proxy) -> u64 {
    let text = proxy.metrics();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("proxy_sticky_active{route=\"0\"} "));
    line.unwrap().parse().unwrap()
}

#[test]
fn a_client_with_the_cookie_stays_with_its_upstream_and_others_take_turns() {
    let (a, b) = (named("a", ""), named("b", ""));
    let proxy = proxy(&[&a, &b], "cookie: whose");
    let (first, one) = ask(&proxy, "GET", "");
    let (second, other) = ask(&proxy, "GET", "");
    assert_ne!(one, other, "no cookie, no preference");
    let (mine, theirs) = (cookie(&first), cookie(&second));
    for _ in 0..10 {
        let (response, name) = ask(&proxy, "GET", &mine);
        assert_eq!(name, one);
        assert_eq!(response.header("set-cookie"), None, "it has one");
        assert_eq!(answered_by(&proxy, &theirs), other);
    }
    assert_eq!(active(&proxy), 2);
    // A client with an unknown cookie gets a new cookie.
    let (response, _) = ask(&proxy, "GET", "Cookie: whose=guessed\r\n");
    assert_ne!(cookie(&response), mine);
}

#[test]
fn a_client_whose_upstream_is_gone_moves_and_stays_there() {
    let well = Arc::new(AtomicBool::new(true));
    let told = well.clone();
    let sick = Upstream::start(move |_, client| {
        while let Some(head) = client.next_head() {
            let up = told.load(Ordering::SeqCst) || !head.starts_with("GET /up ");
            let status = if up { "200 OK" } else { "503 Busy" };
            client.send(format!(
                "HTTP/1.1 {status}\r\nContent-Length: 4\r\n\r\nsick"
            ));
        }
    });
    let (b, c) = (named("b", ""), named("c", ""));
    let proxy = proxy(&[&sick, &b, &c], "cookie: whose");
    let mine = eventually("a client of the one", || {
        let (response, name) = ask(&proxy, "GET", "");
        (name == "sick").then(|| cookie(&response))
    });
    assert_eq!(answered_by(&proxy, &mine), "sick");
    well.store(false, Ordering::SeqCst);
    proxy.log().find("the upstream is not healthy");
    let now = answered_by(&proxy, &mine);
    assert_ne!(now, "sick");
    well.store(true, Ordering::SeqCst);
    proxy.log().find("the upstream is healthy again");
    for _ in 0..5 {
        assert_eq!(answered_by(&proxy, &mine), now, "what it has is there now");
    }
}

#[test]
fn an_upstream_that_cannot_be_reached_costs_its_clients_no_request() {
    let (a, b) = (named("a", ""), named("b", ""));
    let gone = Upstream::unused_address();
    let urls = [a.address, gone, b.address].map(|to| format!("http://{to}"));
    let proxy = Proxy::start(&format!(
        "routes:\n- path: /app\n  upstreams: {urls:?}\n  sticky: {{header: x-session}}\n\
         breaker: {{failures: 1000}}\n"
    ));
    for client in 0..12 {
        let fields = format!("X-Session: {client}\r\n");
        let first = answered_by(&proxy, &fields);
        assert!(first == "a" || first == "b", "{first}");
        assert_eq!(answered_by(&proxy, &fields), first);
    }
}

#[test]
fn a_session_that_the_upstream_begins_and_ends_is_known_by_its_field() {
    let a = named("a", "Mcp-Session-Id: of-a\r\n");
    let b = named("b", "Mcp-Session-Id: of-b\r\n");
    let proxy = proxy(&[&a, &b], "header: Mcp-Session-Id");
    while active(&proxy) < 2 {
        ask(&proxy, "POST", "Content-Length: 0\r\n");
    }
    for _ in 0..6 {
        assert_eq!(answered_by(&proxy, "Mcp-Session-Id: of-a\r\n"), "a");
        assert_eq!(answered_by(&proxy, "Mcp-Session-Id: of-b\r\n"), "b");
    }
    let (response, _) = ask(&proxy, "DELETE", "Mcp-Session-Id: of-a\r\n");
    assert_eq!(response.status, 200);
    assert_eq!(active(&proxy), 1);
    let gone = "Mcp-Session-Id: of-b\r\nX-Status: 404\r\n";
    assert_eq!(ask(&proxy, "GET", gone).0.status, 404);
    assert_eq!(active(&proxy), 0, "its upstream does not know it");
}

#[test]
fn silent_clients_are_forgotten_and_the_number_of_clients_is_bounded() {
    let a = named("a", "");
    let proxy = proxy(&[&a], "cookie: whose, idle: 1, most: 5");
    for _ in 0..20 {
        answered_by(&proxy, "");
    }
    eventually("no more than the most", || {
        (active(&proxy) <= 5).then_some(())
    });
    eventually("that all are forgotten", || {
        (active(&proxy) == 0).then_some(())
    });
}

#[test]
fn the_shutdown_forgets_the_clients_in_its_step() {
    let a = named("a", "");
    let proxy = proxy(&[&a], "cookie: whose");
    answered_by(&proxy, "");
    proxy.signal(Signal::TERM);
    let ended = proxy.wait();
    assert_eq!(ended.code(), 0, "{}", ended.log.text());
    let report = ended.report();
    let mut rows = report.lines().map(str::split_whitespace);
    let mut done =
        |step| rows.any(|mut row| row.next() == Some(step) && row.next() == Some("done"));
    assert!(done("[/app]") && done("store"), "{}", ended.report());
}
