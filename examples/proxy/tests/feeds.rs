//! Tests of feeds: one upstream connection serves all clients of a route. The proxy opens it again
//! when it is lost, and a slow client delays no other client.

mod support;

use std::sync::atomic::Ordering;
use std::sync::{Mutex, mpsc};

use rustix::process::Signal;
use support::client::header;
use support::{Client, PATIENCE, Proxy, Upstream, eventually};

/// A command of a test to its upstream.
enum Order {
    Say(String),
    Leave,
}

/// An upstream that sends events. It applies each command to its latest connection.
struct Source {
    upstream: Upstream,
    heads: mpsc::Receiver<String>,
    orders: mpsc::Sender<Order>,
}

impl Source {
    fn start() -> Self {
        let (told, heads) = mpsc::channel();
        let (orders, taken) = mpsc::channel();
        let taken = Mutex::new(taken);
        let upstream = Upstream::start(move |_, client| {
            told.send(client.head()).unwrap();
            client.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n");
            let taken = taken.lock().unwrap();
            while let Ok(Order::Say(text)) = taken.recv() {
                client.send(text);
            }
        });
        Self {
            upstream,
            heads,
            orders,
        }
    }

    fn say(&self, text: impl Into<String>) {
        self.orders.send(Order::Say(text.into())).unwrap();
    }

    fn leave(&self) {
        self.orders.send(Order::Leave).unwrap();
    }

    /// Returns the head of the next request that the proxy sends to the upstream.
    fn asked(&self) -> String {
        self.heads.recv_timeout(PATIENCE).unwrap()
    }

    fn proxy(&self, more: &str) -> Proxy {
        let to = self.upstream.address;
        proxy(&format!("url: \"http://{to}/stream?key=1\", {more}"))
    }
}

fn proxy(feed: &str) -> Proxy {
    Proxy::start(&format!(
        "routes:\n- path: /events\n  feed: {{{feed}}}\nshutdown_timeout: 600\n\
         metrics: {{enabled: true, address: \"127.0.0.1:0\"}}\n"
    ))
}

/// Connects a client, which requests the events after the event with the id `last`.
fn listen(proxy: &Proxy, last: Option<&str>) -> Client {
    let mut client = proxy.connect();
    let last = last.map(|last| format!("Last-Event-ID: {last}\r\n"));
    client.send(format!(
        "GET /events HTTP/1.1\r\nHost: a\r\n{}\r\n",
        last.unwrap_or_default()
    ));
    let response = client.response_head();
    assert_eq!(response.status, 200, "{response:?}");
    assert_eq!(response.header("content-type"), Some("text/event-stream"));
    assert_eq!(response.header("cache-control"), Some("no-store"));
    client
}

fn has(proxy: &Proxy, line: &str) {
    eventually(line, || {
        proxy.metrics().lines().find_map(|it| {
            let (name, value) = (it.split('{').next()?, it.rsplit(' ').next()?);
            (format!("{name} {value}") == line).then_some(())
        })
    });
}

/// Returns the state of the feed, as the metrics show it.
fn state(proxy: &Proxy) -> String {
    let text = proxy.metrics();
    let mut states = text
        .lines()
        .filter(|line| line.starts_with("proxy_feed_state{") && line.ends_with(" 1"));
    let state = states.next().and_then(|line| line.split("state=\"").nth(1));
    assert!(states.next().is_none(), "{text}");
    state.unwrap().split('"').next().unwrap().to_owned()
}

fn until_state(proxy: &Proxy, wanted: &str) {
    eventually(wanted, || (state(proxy) == wanted).then_some(()));
}

#[test]
fn many_clients_get_every_event_over_one_upstream_connection() {
    let source = Source::start();
    let proxy = source.proxy("");
    let head = source.asked();
    assert!(head.starts_with("GET /stream?key=1 HTTP/1.1\r\n"), "{head}");
    assert_eq!(header(&head, "accept"), Some("text/event-stream"));
    assert_eq!(header(&head, "last-event-id"), None);
    let mut clients: Vec<_> = (0..20).map(|_| listen(&proxy, None)).collect();
    has(&proxy, "proxy_feed_listeners 20");
    source.say("retry: 5\nevent: greeting\nid: 1\ndata: hello\ndata: all\n\n: not for clients\n\n");
    source.say("data: again\n\n");
    for client in &mut clients {
        let first = client.event().unwrap();
        assert_eq!(first, "event: greeting\ndata: hello\ndata: all\nid: 1\n\n");
        assert_eq!(client.event().unwrap(), "data: again\n\n");
    }
    assert_eq!(source.upstream.connections.load(Ordering::SeqCst), 1);
    assert_eq!(state(&proxy), "open");
    let text = proxy.metrics();
    assert!(text.contains("proxy_feed_events_total"), "{text}");
    assert!(!text.contains("key=1"), "{text}");
    drop(clients);
    has(&proxy, "proxy_feed_listeners 0");
}

#[test]
fn a_lost_stream_is_reopened_and_clients_do_not_notice() {
    let source = Source::start();
    let proxy = source.proxy("");
    source.asked();
    let mut client = listen(&proxy, None);
    source.say("retry: 100\nid: 7\ndata: before\n\ndata: half of an ev");
    assert_eq!(client.event().unwrap(), "data: before\nid: 7\n\n");
    source.leave();
    let line = proxy.log().find("the feed was lost: reconnecting");
    assert!(line["pause_ms"].as_u64().unwrap() <= 200, "{line}");
    let head = source.asked();
    assert_eq!(header(&head, "last-event-id"), Some("7"), "{head}");
    source.say("id: 8\ndata: after\n\n");
    assert_eq!(client.event().unwrap(), "data: after\nid: 8\n\n");
    has(&proxy, "proxy_feed_opened_total 2");
}

#[test]
fn without_an_upstream_the_feed_backs_off_and_clients_wait() {
    let gone = Upstream::unused_address();
    let proxy = proxy(&format!("url: \"http://{gone}/\""));
    let mut client = listen(&proxy, None);
    assert_eq!(client.chunk().unwrap(), b":\n\n");
    until_state(&proxy, "backing_off");
    // The shutdown must not wait until the pause before the next attempt ends.
    proxy.signal(Signal::TERM);
    assert!(client.event().unwrap().starts_with("retry: "));
    let ended = proxy.wait();
    assert_eq!(ended.code(), 0, "{}", ended.log.text());
}

#[test]
fn a_client_that_does_not_read_is_disconnected_and_delays_no_other() {
    let source = Source::start();
    let proxy = source.proxy("queue: 4");
    source.asked();
    let mut slow = listen(&proxy, None);
    let mut quick = listen(&proxy, None);
    // The events are megabytes in total, more than the buffers of the sockets hold. The quick
    // client reads all of them.
    let filling = "x".repeat(60_000);
    let mut sent = 0;
    eventually("that the slow one is let go", || {
        source.say(format!("id: {sent}\ndata: {filling}\n\n"));
        let heard = quick.event().unwrap();
        assert!(heard.ends_with(&format!("\nid: {sent}\n\n")));
        sent += 1;
        let text = proxy.metrics();
        let mut lines = text.lines();
        let dropped =
            lines.any(|it| it.starts_with("proxy_feed_dropped_total{") && it.ends_with(" 1"));
        dropped.then_some(())
    });
    has(&proxy, "proxy_feed_listeners 1");
    // When the slow client reads at last, it gets whole events from its queue, and then a `retry`.
    let mut expected = 0;
    loop {
        let heard = slow.event().unwrap();
        if heard.starts_with("retry: ") {
            break;
        }
        assert!(heard.ends_with(&format!("\nid: {expected}\n\n")));
        expected += 1;
    }
    assert!(expected > 0 && expected < sent);
    assert_eq!(slow.event(), None);
    // After the slow client has reconnected, it gets all later events that the feed still keeps.
    let last = (expected - 1).to_string();
    let mut again = listen(&proxy, Some(&last));
    let heard = again.event().unwrap();
    assert!(heard.ends_with(&format!("\nid: {expected}\n\n")));
}

#[test]
fn a_client_that_reconnects_gets_the_events_it_missed() {
    let source = Source::start();
    let proxy = source.proxy("replay: 2");
    source.asked();
    let mut client = listen(&proxy, None);
    for id in 1..=3 {
        source.say(format!("id: {id}\ndata: {id}\n\n"));
        client.event().unwrap();
    }
    for (last, missed) in [
        ("2", vec!["3"]),
        ("1", vec!["2", "3"]),
        ("0", vec!["2", "3"]),
    ] {
        let mut again = listen(&proxy, Some(last));
        for id in missed {
            assert_eq!(again.event().unwrap(), format!("data: {id}\nid: {id}\n\n"));
        }
    }
}

#[test]
fn a_feed_that_ended_is_not_reopened_and_clients_get_204() {
    let (leave, told) = mpsc::channel::<()>();
    let told = Mutex::new(told);
    let upstream = Upstream::start(move |number, client| {
        client.head();
        if number == 0 {
            client.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\nretry: 100\n\n");
            told.lock().unwrap().recv().unwrap();
        } else {
            client.send("HTTP/1.1 204 No Content\r\n\r\n");
        }
    });
    let proxy = proxy(&format!("url: \"http://{}/\"", upstream.address));
    let mut client = listen(&proxy, None);
    leave.send(()).unwrap();
    until_state(&proxy, "ended");
    assert_eq!(client.event(), None);
    let (response, _) = proxy.connect().get("/events");
    assert_eq!(response.status, 204);
    assert_eq!(upstream.connections.load(Ordering::SeqCst), 2);
}

#[test]
fn answers_that_are_not_event_streams_are_not_passed_on() {
    let upstream = Upstream::start(|_, client| {
        while client.next_head().is_some() {
            client.send("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 9\r\n\r\ndata: x\n\n");
        }
    });
    let proxy = proxy(&format!("url: \"http://{}/\"", upstream.address));
    let mut client = listen(&proxy, None);
    let line = proxy.log().find("the feed was lost: reconnecting");
    assert_eq!(line["error"], "the answer is not an event stream");
    assert_eq!(client.chunk().unwrap(), b":\n\n");
    let mut other = proxy.connect();
    other.send("POST /events HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
    let response = other.response_head();
    assert_eq!(response.status, 405);
    assert_eq!(response.header("allow"), Some("GET, HEAD"));
}

#[test]
fn the_shutdown_ends_streams_between_events_and_closes_the_upstream_in_its_step() {
    let (left, seen) = mpsc::channel();
    let upstream = Upstream::start(move |_, client| {
        client.head();
        client.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\nid: 1\ndata: x\n\n");
        left.send(client.rest()).unwrap();
    });
    let proxy = proxy(&format!("url: \"http://{}/\"", upstream.address));
    let mut clients: Vec<_> = (0..5).map(|_| listen(&proxy, Some("0"))).collect();
    for client in &mut clients {
        assert_eq!(client.event().unwrap(), "data: x\nid: 1\n\n");
    }
    proxy.signal(Signal::TERM);
    let mut retries = std::collections::BTreeSet::new();
    for client in &mut clients {
        let last = client.event().unwrap();
        assert!(
            last.starts_with("retry: ") && last.ends_with("\n\n"),
            "{last:?}"
        );
        retries.insert(last);
        assert_eq!(client.event(), None);
        assert_eq!(client.rest(), b"");
    }
    assert!(retries.len() > 1, "all at the same time: {retries:?}");
    let ended = proxy.wait();
    assert_eq!(ended.code(), 0, "{}", ended.log.text());
    let report = ended.report();
    let mut lines = report.lines().map(str::split_whitespace);
    let step = lines.any(|mut row| row.next() == Some("[/events]") && row.next() == Some("done"));
    assert!(step, "{}", ended.report());
    assert_eq!(seen.recv_timeout(PATIENCE).unwrap(), b"");
}
