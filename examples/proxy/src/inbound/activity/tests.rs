use futures_util::FutureExt as _;
use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::*;

const LIMITS: Limits = Limits {
    header_read_timeout: Duration::from_secs(2),
    idle: Duration::from_secs(10),
};

/// How long until `activity` expires, if nothing more happens.
async fn left(activity: &Activity) -> Duration {
    let start = Instant::now();
    activity.expired().await;
    start.elapsed()
}

#[tokio::test]
async fn a_socket_closed_over_unread_bytes_does_not_lose_what_was_written() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let mut client = TcpStream::connect(address).await.unwrap();
    let (server, _) = listener.accept().await.unwrap();
    client.write_all(&[b'q'; 1000]).await.unwrap();

    // More is written than the client's socket takes in, so the rest is the
    // kernel's to send after the close.
    let mut written = 0;
    server.writable().await.unwrap();
    while let Ok(length) = server.try_write(&[b'a'; 65536]) {
        written += length;
    }
    let closing = tokio::spawn(async move {
        let activity = Arc::new(Activity::new(LIMITS));
        activity.exchange_begins();
        Watched::new(server, activity).shutdown().await.unwrap();
    });
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    let mut read = Vec::new();
    client.read_to_end(&mut read).await.unwrap();
    assert_eq!(read.len(), written);
    drop(client);
    closing.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_unused_connection_has_the_idle_limit() {
    let activity = Activity::new(LIMITS);
    assert_eq!(left(&activity).await.as_secs(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_head_must_be_complete_soon_after_its_first_byte_however_it_trickles() {
    let activity = Activity::new(LIMITS);
    tokio::time::advance(Duration::from_secs(5)).await;
    activity.bytes_arrived();
    tokio::time::advance(Duration::from_secs(1)).await;
    activity.bytes_arrived();
    assert_eq!(left(&activity).await.as_secs(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_exchange_lives_as_long_as_its_bytes_flow() {
    let activity = Activity::new(LIMITS);
    activity.bytes_arrived();
    activity.exchange_begins();
    for _ in 0..5 {
        tokio::time::advance(Duration::from_secs(9)).await;
        activity.touch();
    }
    assert_eq!(left(&activity).await.as_secs(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_connection_does_not_expire_while_the_upstream_owes_the_answer() {
    let activity = Activity::new(LIMITS);
    activity.exchange_begins();
    activity.request_ended();
    let waited = tokio::time::timeout(Duration::from_secs(100), left(&activity)).await;
    assert!(waited.is_err());
    activity.answered();
    assert_eq!(left(&activity).await.as_secs(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_response_that_came_before_the_end_of_the_request_has_the_idle_limit() {
    let activity = Activity::new(LIMITS);
    activity.exchange_begins();
    activity.answered();
    activity.request_ended();
    assert_eq!(left(&activity).await.as_secs(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_connection_in_http_2_is_idle_only_when_nothing_is_owed() {
    let activity = Activity::new(LIMITS);
    activity.bytes_arrived();
    activity.stream_begins();
    activity.stream_begins();
    activity.stream_answered();
    let waited = tokio::time::timeout(Duration::from_secs(100), left(&activity)).await;
    assert!(waited.is_err());
    activity.stream_answered();
    assert_eq!(left(&activity).await.as_secs(), 10);
    activity.bytes_arrived();
    assert_eq!(left(&activity).await.as_secs(), 10, "a ping is no head");
}

#[tokio::test]
async fn a_client_that_gives_up_more_requests_than_it_waits_for_has_had_enough() {
    let activity = Activity::new(LIMITS);
    for _ in 0..1000 {
        activity.stream_begins();
        activity.stream_abandoned();
        activity.stream_begins();
        activity.stream_answered();
    }
    for _ in 1..MOST_ABANDONED {
        activity.stream_begins();
        activity.stream_abandoned();
    }
    assert!(activity.enough().now_or_never().is_none());
    activity.stream_begins();
    activity.stream_abandoned();
    assert!(activity.enough().now_or_never().is_some());
    assert!(activity.too_much().now_or_never().is_none());
    for _ in 0..MOST_ABANDONED {
        activity.stream_begins();
        activity.stream_abandoned();
    }
    assert!(activity.too_much().now_or_never().is_some());
}
