//! Event streams and upgrades learn of the shutdown from their connection, and the server awaits their end.

mod support;

use std::time::Duration;

use lifecycle_http::Limits;
use support::{Client, Site, site};
use tokio::io::AsyncReadExt;
use tokio::time::Instant;

/// Reads one chunk of a chunked body. Returns it without the line of its length.
async fn chunk(client: &mut Client) -> String {
    let length = client.hears_until("\r\n").await;
    let length = usize::from_str_radix(length.trim(), 16).unwrap();
    let mut chunk = vec![0; length + 2];
    client.0.read_exact(&mut chunk).await.unwrap();
    chunk.truncate(length);
    String::from_utf8(chunk).unwrap()
}

async fn listening(site: &Site, path: &str) -> Client {
    let mut client = site.client().await;
    client.gets(path).await;
    client.hears_until("\r\n\r\n").await;
    site.stage.events.send("data: 1\n\n").unwrap();
    assert_eq!(chunk(&mut client).await, "data: 1\n\n");
    client
}

#[tokio::test(start_paused = true)]
async fn an_event_stream_ends_with_a_time_to_come_back() {
    let site = site(Limits::default());
    let mut client = listening(&site, "/events").await;
    let start = Instant::now();
    let (stopped, last) = tokio::join!(site.stop(), chunk(&mut client));
    stopped.unwrap();
    assert!(start.elapsed() < Duration::from_millis(10));
    let millis = last
        .strip_prefix("retry: ")
        .and_then(|rest| rest.strip_suffix("\n\n"))
        .unwrap();
    assert!(
        (500..=3_000).contains(&millis.parse::<u64>().unwrap()),
        "{last:?}"
    );
    assert_eq!(chunk(&mut client).await, "", "the body ended in order");
    assert!(client.is_closed().await);
}

#[tokio::test(start_paused = true)]
async fn an_event_that_was_begun_is_finished_first() {
    let site = site(Limits::default());
    let mut client = listening(&site, "/events").await;
    site.stage.events.send("data: tw").unwrap();
    assert_eq!(chunk(&mut client).await, "data: tw");
    let (stopped, rest) = tokio::join!(site.stop(), async {
        site.told().await;
        site.stage.events.send("o\n\n").unwrap();
        [chunk(&mut client).await, chunk(&mut client).await]
    });
    stopped.unwrap();
    assert_eq!(rest[0], "o\n\n");
    assert!(rest[1].starts_with("retry: "), "{rest:?}");
}

#[tokio::test(start_paused = true)]
async fn a_stream_of_another_kind_is_the_handlers_to_end() {
    let site = site(Limits::default());
    let _client = listening(&site, "/endless").await;
    let error = site.stop_within(Duration::from_secs(5)).await.unwrap_err();
    assert!(error.to_string().contains("GET /endless"), "{error}");
}

async fn upgraded(site: &Site, path: &str) -> Client {
    let mut client = site.client().await;
    client
        .says(&format!(
            "GET {path} HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n"
        ))
        .await;
    let head = client.hears_until("\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    client
}

#[tokio::test(start_paused = true)]
async fn an_upgrade_is_told_and_awaited() {
    let site = site(Limits::default());
    let mut client = upgraded(&site, "/echo").await;
    client.says("hi").await;
    assert_eq!(client.hears_until("hi").await, "hi");
    assert_eq!(site.http.stats().active, 1);
    let (stopped, ()) = tokio::join!(site.stop(), async {
        assert_eq!(client.hears_until("bye").await, "bye");
        client.says("one more thing").await;
        assert_eq!(client.hears_until("thing").await, "one more thing");
        assert_eq!(site.http.stats().active, 1, "it is still waited for");
        drop(client);
    });
    stopped.unwrap();
    assert_eq!(site.http.stats().active, 0);
}

#[tokio::test(start_paused = true)]
async fn an_upgrade_that_stays_is_cut_and_named() {
    let site = site(Limits::default());
    let mut client = upgraded(&site, "/echo").await;
    let error = site
        .stop_within(Duration::from_secs(10))
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("(h1, GET /echo) for 9.0 s"), "{error}");
    assert_eq!(client.hears_all().await, "bye");
}

#[tokio::test(start_paused = true)]
async fn an_upgrade_in_foreign_hands_is_awaited_and_its_socket_cut() {
    let site = site(Limits::default());
    let mut client = upgraded(&site, "/foreign").await;
    let error = site
        .stop_within(Duration::from_secs(10))
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("GET /foreign"), "{error}");
    // The task of the upgrade still holds the stream, but the server has closed the socket.
    assert!(client.is_closed().await);
    site.stage.release.add_permits(1);
}

#[tokio::test(start_paused = true)]
async fn an_upgrade_in_foreign_hands_that_ends_is_not_missed() {
    let site = site(Limits::default());
    let _client = upgraded(&site, "/foreign").await;
    let (stopped, ()) = tokio::join!(site.stop(), async {
        site.told().await;
        site.stage.release.add_permits(1);
    });
    stopped.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_upgrade_without_a_byte_is_idle() {
    let site = site(Limits::default());
    let mut client = upgraded(&site, "/echo").await;
    let start = Instant::now();
    assert_eq!(client.hears_until("bye").await, "bye");
    assert!(start.elapsed() <= Limits::default().idle * 5 / 4);
    assert!(client.is_closed().await, "and cut, since it stays");
    site.has(0).await;
}

#[tokio::test(start_paused = true)]
async fn a_connect_is_an_upgrade_too() {
    let site = site(Limits::default());
    let mut client = site.client().await;
    client
        .says("CONNECT b:1 HTTP/1.1\r\nhost: b:1\r\n\r\n")
        .await;
    let head = client.hears_until("\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    client.says("through").await;
    assert_eq!(client.hears_until("through").await, "through");
    let (stopped, ()) = tokio::join!(site.stop(), async {
        assert_eq!(client.hears_until("bye").await, "bye");
        drop(client);
    });
    stopped.unwrap();
}
