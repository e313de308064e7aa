//! HTTP/1.1 connections during a drain: each is ended according to its state.

mod support;

use std::os::unix::net::UnixStream;
use std::time::Duration;

use lifecycle_http::Limits;
use support::{GET, Place, site, site_of, tcp_site};

#[tokio::test(start_paused = true)]
async fn without_connections_it_ends_at_once() {
    let site = site(Limits::default());
    let start = tokio::time::Instant::now();
    site.stop().await.unwrap();
    assert!(start.elapsed() < Duration::from_millis(2));
    assert!(site.place.connect().await.is_err(), "nobody listens");
}

#[tokio::test(start_paused = true)]
async fn a_request_in_flight_is_answered_and_told_to_close() {
    let site = site(Limits::default());
    let mut client = site.client().await;
    client.gets("/hold").await;
    site.reached().await;
    let (stopped, answer) = tokio::join!(site.stop(), async {
        site.told().await;
        site.stage.release.add_permits(1);
        client.hears_all().await
    });
    stopped.unwrap();
    assert!(
        answer.ends_with("held") && answer.contains("connection: close"),
        "{answer}"
    );
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_is_closed_without_waiting_for_its_client() {
    let site = site(Limits::default());
    let mut client = site.client().await;
    client.says(GET).await;
    client.hears().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let start = tokio::time::Instant::now();
    site.stop().await.unwrap();
    assert!(start.elapsed() < Duration::from_millis(5));
    assert!(client.is_closed().await);
}

#[tokio::test(start_paused = true)]
async fn a_client_in_dialogue_gets_its_next_request_answered() {
    let site = site(Limits::default());
    let mut client = site.client().await;
    client.says(GET).await;
    client.hears().await;
    let (stopped, answer) = tokio::join!(site.stop(), async {
        // The client waits before its next request, for less than `keep_alive_after_drain`.
        tokio::time::sleep(Duration::from_millis(100)).await;
        client.says(GET).await;
        client.hears_all().await
    });
    stopped.unwrap();
    assert!(
        answer.ends_with("hello") && answer.contains("connection: close"),
        "{answer}"
    );
}

#[tokio::test(start_paused = true)]
async fn connections_that_the_kernel_has_queued_are_answered() {
    let site = site(Limits::default());
    // The accept loop is not polled before the stop, because nothing is awaited here. So these connections wait in the
    // kernel's queue.
    let queued: Vec<_> = (0..20)
        .map(|_| {
            let mut client = UnixStream::connect(site.place.path()).unwrap();
            std::io::Write::write_all(&mut client, GET.as_bytes()).unwrap();
            client
        })
        .collect();
    site.stop().await.unwrap();
    for mut client in queued {
        let mut text = String::new();
        std::io::Read::read_to_string(&mut client, &mut text).unwrap();
        assert!(
            text.ends_with("hello") && text.contains("connection: close"),
            "{text}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_connection_holds_it_up_for_a_moment_only() {
    let site = site(Limits::default());
    let mut silent = site.client().await;
    site.has(1).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let start = tokio::time::Instant::now();
    site.stop().await.unwrap();
    assert!(start.elapsed() < Duration::from_millis(5));
    assert!(silent.is_closed().await);
}

#[tokio::test(start_paused = true)]
async fn half_a_head_may_be_finished_and_must_be_soon() {
    let site = site(Limits::default());
    let (mut slow, mut dead) = (site.client().await, site.client().await);
    slow.says("GET / HTTP/1.1\r\nho").await;
    dead.says("GET / HTTP/1.1\r\nho").await;
    site.has(2).await;
    tokio::time::sleep(Duration::from_millis(10)).await;
    let start = tokio::time::Instant::now();
    let (stopped, answer) = tokio::join!(site.stop(), async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        slow.says("st: a\r\n\r\n").await;
        slow.hears_all().await
    });
    stopped.unwrap();
    assert!(answer.ends_with("hello"), "{answer}");
    assert!(dead.is_closed().await);
    let farewell = Limits::default().close_ack_timeout;
    assert!(start.elapsed() >= farewell && start.elapsed() < farewell + Duration::from_millis(50));
}

#[tokio::test(start_paused = true)]
async fn half_a_head_after_a_request_may_be_finished_too() {
    let site = site(Limits::default());
    let mut client = site.client().await;
    client.says(GET).await;
    client.hears().await;
    client.says("GET / HT").await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let (stopped, answer) = tokio::join!(site.stop(), async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        client.says("TP/1.1\r\nhost: a\r\n\r\n").await;
        client.hears_all().await
    });
    stopped.unwrap();
    assert!(answer.ends_with("hello"), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn an_upload_in_flight_is_taken_to_its_end() {
    let site = site(Limits::default());
    let mut client = site.client().await;
    client
        .says("POST /upload HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\n12345")
        .await;
    site.reached().await;
    let (stopped, answer) = tokio::join!(site.stop(), async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        client.says("67890").await;
        client.hears_all().await
    });
    stopped.unwrap();
    assert!(answer.ends_with("10"), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn at_the_deadline_the_rest_is_cut_counted_and_named() {
    let site = site(Limits::default());
    let mut client = site.client().await;
    client.gets("/stuck?token=secret").await;
    site.reached().await;
    let error = site
        .stop_within(Duration::from_secs(10))
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("unix (h1, GET /stuck) for 9.0 s"), "{error}");
    assert!(!error.contains("secret"), "{error}");
    assert_eq!(site.http.stats().forced, 1);
    assert_eq!(site.http.in_flight(), 0, "and its handler is gone");
    assert!(client.is_closed().await);
}

#[tokio::test(start_paused = true)]
async fn many_idle_connections_are_closed_one_after_the_other() {
    let mut limits = Limits::default();
    limits.spread = Duration::from_millis(10);
    let site = site_of(limits, 100);
    let mut clients = Vec::new();
    for _ in 0..50 {
        let mut client = site.client().await;
        client.says(GET).await;
        client.hears().await;
        clients.push(client);
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    let start = tokio::time::Instant::now();
    let left = async {
        tokio::time::sleep(Duration::from_millis(250)).await;
        site.http.stats().active
    };
    let (stopped, left) = tokio::join!(site.stop(), left);
    stopped.unwrap();
    assert!((20..=30).contains(&left), "{left}");
    assert!(start.elapsed() < Duration::from_millis(600));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_response_to_a_slow_client_arrives_whole() {
    let site = tcp_site(Limits::default()).await;
    let mut client = site.client().await;
    client.gets("/big").await;
    site.reached().await;
    let (stopped, answer) = tokio::join!(site.stop(), async {
        let mut read = 0;
        let mut buffer = vec![0; 256 << 10];
        loop {
            match tokio::io::AsyncReadExt::read(&mut client.0, &mut buffer)
                .await
                .unwrap()
            {
                0 => break read,
                length => read += length,
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    stopped.unwrap();
    assert!(answer > 20 << 20, "{answer}");
}

#[tokio::test(start_paused = true)]
async fn dropping_it_cuts_everything() {
    let site = site(Limits::default());
    let mut client = site.client().await;
    client.gets("/stuck").await;
    site.reached().await;
    drop(site);
    assert!(client.is_closed().await);
}
