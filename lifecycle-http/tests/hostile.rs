//! Clients that are slow, silent or broken: the time of each is limited, before the shutdown and while draining.

mod support;

use std::time::Duration;

use lifecycle_http::Limits;
use support::{Client, GET, Site, site, site_of, tcp_site};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

/// Checks that the connection ends after about `limit`, and that the server then has no connection.
async fn is_rid_of_it(site: &Site, client: &mut Client, limit: Duration) {
    let start = Instant::now();
    assert!(client.is_closed().await);
    let took = start.elapsed();
    assert!(
        took <= limit + limit / 8 + Duration::from_millis(100),
        "it took {took:?}"
    );
    assert!(
        took + Duration::from_secs(1) >= limit,
        "it took only {took:?}"
    );
    site.has(0).await;
}

#[tokio::test]
async fn a_head_much_longer_than_max_head_gets_431() {
    for (length, status) in [(8_000, "200"), (40_000, "431")] {
        let mut limits = Limits::default();
        limits.max_head = 10_000;
        let site = tcp_site(limits).await;
        let mut client = site.client().await;
        let head = format!(
            "GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n",
            "x".repeat(length)
        );
        client.says(&head).await;
        let answer = client.hears().await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{answer}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_client_is_closed_after_the_header_read_timeout() {
    let site = site(Limits::default());
    let mut client = site.client().await;
    is_rid_of_it(&site, &mut client, Limits::default().header_read_timeout).await;
    assert_eq!(site.http.stats().expired, 1);
}

#[tokio::test(start_paused = true)]
async fn half_a_head_has_the_hello() {
    let site = site(Limits::default());
    let mut client = site.client().await;
    client.says("GET / HTTP/1.1\r\nhost").await;
    is_rid_of_it(&site, &mut client, Limits::default().header_read_timeout).await;
}

#[tokio::test(start_paused = true)]
async fn a_head_that_trickles_has_the_hello_too() {
    let site = site(Limits::default());
    let mut client = site.client().await;
    client.says("GET / HTTP/1.1\r\n").await;
    let start = Instant::now();
    while client.0.write_all(b"a: b\r\n").await.is_ok() {
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "a slowloris lives on"
        );
    }
    site.has(0).await;
}

#[tokio::test(start_paused = true)]
async fn a_second_head_that_trickles_has_the_hello_too() {
    let site = site(Limits::default());
    let mut client = site.client().await;
    client.says(GET).await;
    client.hears().await;
    // The connection is idle for 30 s first. The limit counts only from the first byte of the head.
    tokio::time::sleep(Duration::from_secs(30)).await;
    client.says("GET / HT").await;
    is_rid_of_it(&site, &mut client, Limits::default().header_read_timeout).await;
}

#[tokio::test(start_paused = true)]
async fn half_a_preface_has_the_hello() {
    let site = site(Limits::default());
    let mut client = site.client().await;
    client.says("PRI * HTTP/2.0\r\n\r\nS").await;
    is_rid_of_it(&site, &mut client, Limits::default().header_read_timeout).await;
}

#[tokio::test(start_paused = true)]
async fn half_a_body_fails_after_the_stall() {
    let site = site(Limits::default());
    let mut client = site.client().await;
    client
        .says("POST /upload HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\n12345")
        .await;
    let start = Instant::now();
    let answer = client.hears().await;
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
    assert_eq!(start.elapsed().as_secs(), Limits::default().stall.as_secs());
    assert!(client.is_closed().await);
    site.has(0).await;
}

#[tokio::test(start_paused = true)]
async fn half_a_body_fails_while_draining_too() {
    let site = site(Limits::default());
    let mut client = site.client().await;
    client
        .says("POST /upload HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\n12345")
        .await;
    site.reached().await;
    let (stopped, answer) = tokio::join!(site.stop(), client.hears_all());
    stopped.unwrap();
    assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
}

#[tokio::test(start_paused = true)]
async fn a_response_that_nobody_reads_is_given_up() {
    let site = site(Limits::default());
    let mut client = site.client().await;
    client.gets("/big").await;
    site.reached().await;
    let start = Instant::now();
    site.has(0).await;
    let took = start.elapsed();
    // The bytes that the kernel takes at first add to the client's time, so the connection lives longer than `stall`.
    let stall = Limits::default().stall;
    assert!(took >= stall && took < stall * 2, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn an_idle_client_is_told_to_close() {
    let site = site(Limits::default());
    let mut client = site.client().await;
    client.says(GET).await;
    client.hears().await;
    is_rid_of_it(&site, &mut client, Limits::default().idle).await;
    assert_eq!(site.http.stats().expired, 1);
}

#[tokio::test(start_paused = true)]
async fn a_handler_that_takes_its_time_is_not_idle() {
    let site = site(Limits::default());
    let mut client = site.client().await;
    client.gets("/hold").await;
    site.reached().await;
    tokio::time::sleep(Limits::default().idle * 5).await;
    site.stage.release.add_permits(1);
    assert!(client.hears().await.ends_with("held"));
}

/// The bytes that a client may have sent when it resets the connection.
const SAID: [&str; 9] = [
    "",
    "GET",
    "GET / HTTP/1.1\r\nhost: a\r\n",
    "POST /upload HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\n12345",
    "GET /stuck HTTP/1.1\r\nhost: a\r\n\r\n",
    "GET /big HTTP/1.1\r\nhost: a\r\n\r\n",
    "GET /events HTTP/1.1\r\nhost: a\r\n\r\n",
    "GET /echo HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n",
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
];

fn reset(client: Client<TcpStream>) {
    socket2::SockRef::from(&client.0)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
}

/// Returns limits whose times are all `time`, except for the spread.
fn all_times(time: Duration) -> Limits {
    let mut limits = Limits::default();
    limits.header_read_timeout = time;
    limits.idle = time;
    limits.stall = time;
    limits.ping = time;
    limits.pong = time;
    limits.keep_alive_after_drain = time;
    limits.close_ack_timeout = time;
    limits.linger = time;
    limits
}

/// Returns limits that no test reaches. Only TCP has resets, so the tests of resets run in real time, and they show by
/// these limits that the reset itself ends the connection.
fn an_hour() -> Limits {
    all_times(Duration::from_secs(3600))
}

#[tokio::test]
async fn a_reset_at_any_moment_frees_the_place() {
    let site = tcp_site(an_hour()).await;
    for said in SAID {
        let mut client = site.client().await;
        client.says(said).await;
        site.has(1).await;
        reset(client);
        let freed = timeout(Duration::from_secs(60), site.has(0)).await;
        assert!(freed.is_ok(), "after {said:?}");
    }
    site.stop().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn garbage_is_refused_and_forgotten() {
    let site = site(Limits::default());
    let mut client = site.client().await;
    client.says("\x16\x03\x01 what is this\r\n\r\n").await;
    let answer = client.hears_all().await;
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    site.has(0).await;
}

#[tokio::test(start_paused = true)]
async fn past_the_limit_clients_are_told_so_and_cost_nothing() {
    let site = site_of(Limits::default(), 2);
    let (mut first, _second) = (site.client().await, site.client().await);
    site.has(2).await;
    for _ in 0..50 {
        let mut client = site.client().await;
        // The server may have closed the connection before it gets these bytes.
        let _ = client.0.write_all(GET.as_bytes()).await;
        let answer = client.hears_all().await;
        assert!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 503"),
            "{answer}"
        );
    }
    assert_eq!(site.http.stats().rejected, 50);
    assert_eq!(site.http.stats().peak, 2);
    first.says(GET).await;
    assert!(first.hears().await.ends_with("hello"));
}

#[tokio::test(start_paused = true)]
async fn all_of_them_together_hold_up_a_drain_for_the_farewell_only() {
    let site = site(Limits::default());
    let mut clients = Vec::new();
    for said in [
        "",
        "GET / HT",
        "PRI * HTTP/2.0\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        let mut client = site.client().await;
        client.says(said).await;
        clients.push(client);
    }
    let mut slowloris = site.client().await;
    slowloris.says("GET / HTTP/1.1\r\n").await;
    site.has(5).await;
    let start = Instant::now();
    let trickle = async {
        while slowloris.0.write_all(b"a: b\r\n").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let (stopped, ()) = tokio::join!(site.stop(), trickle);
    stopped.unwrap();
    let farewell = Limits::default().close_ack_timeout;
    assert!(
        start.elapsed() < farewell + Duration::from_millis(300),
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test]
async fn a_reset_while_draining_ends_the_wait() {
    for said in SAID {
        let site = tcp_site(an_hour()).await;
        let mut client = site.client().await;
        client.says(said).await;
        site.has(1).await;
        let (stopped, ()) = tokio::join!(site.stop(), async {
            site.told().await;
            reset(client);
        });
        assert!(stopped.is_ok(), "after {said:?}: {stopped:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn limits_may_be_as_long_and_as_short_as_a_duration_can_be() {
    for extreme in [Duration::ZERO, Duration::MAX] {
        let mut limits = all_times(extreme);
        limits.min_bytes_per_second = 0;
        limits.spread = extreme;
        let site = site(limits);
        let mut silent = site.client().await;
        site.has(1).await;
        let mut client = site.client().await;
        if extreme.is_zero() {
            // The server may have closed the connection before it gets these bytes.
            let _ = client.0.write_all(GET.as_bytes()).await;
            assert!(silent.is_closed().await);
        } else {
            client.says(GET).await;
            assert!(client.hears().await.ends_with("hello"));
        }
        let stopped = site.stop_within(Duration::from_secs(1)).await;
        assert_eq!(stopped.is_ok(), extreme.is_zero(), "{stopped:?}");
        assert_eq!(site.http.stats().failed, 0, "no task panicked");
    }
}

/// Returns a frame of HTTP/2.
#[cfg(feature = "h2")]
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = length[1..].to_vec();
    frame.extend([kind, flags]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}

#[cfg(feature = "h2")]
#[tokio::test]
async fn an_h2_client_that_gives_up_one_request_after_the_other_is_cut() {
    let mut limits = Limits::default();
    // The server first tells the client to close. The client does not acknowledge that, and must not be cut for it, so
    // the limit is long.
    limits.close_ack_timeout = Duration::from_secs(3600);
    let site = tcp_site(limits).await;
    let mut client = site.client().await;
    client.says("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    client.0.write_all(&frame(4, 0, 0, &[])).await.unwrap();
    site.has(1).await;
    let mut given_up = 0;
    loop {
        let stream = 2 * given_up + 1;
        // This frame is a whole request: GET http://a/stuck.
        let ask = frame(1, 5, stream, b"\x82\x86\x04\x06/stuck\x41\x01a");
        if client.0.write_all(&ask).await.is_err() {
            break;
        }
        tokio::select! {
            () = site.reached() => {}
            () = site.has(0) => break,
        }
        let give_up = frame(3, 0, stream, &[0, 0, 0, 8]);
        if client.0.write_all(&give_up).await.is_err() {
            break;
        }
        given_up += 1;
    }
    site.has(0).await;
    assert!((200..300).contains(&given_up), "{given_up}");
    assert_eq!(site.http.stats().failed, 1);
}
