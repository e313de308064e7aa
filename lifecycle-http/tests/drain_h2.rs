//! HTTP/2 connections during a drain: streams in flight finish, and clients learn which streams the server did not
//! begin.
#![cfg(feature = "h2")]

mod support;

use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use http::Request;
use lifecycle_http::Limits;
use support::{Place, Site, site, tcp_site};
use tokio::task::JoinHandle;
use tokio::time::Instant;

type Driver = JoinHandle<Result<(), h2::Error>>;

/// Returns an h2 client, and the task that runs its connection.
async fn client(site: &Site<impl Place>, window: u32) -> (SendRequest<Bytes>, Driver) {
    let stream = site.place.connect().await.unwrap();
    let mut builder = h2::client::Builder::new();
    builder.initial_window_size(window);
    let (send, connection) = builder.handshake(stream).await.unwrap();
    (send, tokio::spawn(connection))
}

#[tokio::test]
async fn clients_may_ask_for_other_protocols_unless_the_service_has_none() {
    for enabled in [true, false] {
        let builder = lifecycle_http::HttpServer::bind("127.0.0.1:0")
            .await
            .unwrap();
        let site = support::serve_tcp(builder.extended_connect(enabled));
        let (mut send, _driver) = client(&site, 65_535).await;
        // The server sends its settings before its first response, so the client knows them after this request.
        send.send_request(get("/"), true).unwrap().0.await.unwrap();
        assert_eq!(send.is_extended_connect_protocol_enabled(), enabled);
    }
}

#[tokio::test]
async fn the_settings_tell_a_client_how_many_streams_it_may_have() {
    let mut limits = Limits::default();
    limits.max_streams = 7;
    let site = tcp_site(limits).await;
    let (mut send, _driver) = client(&site, 65_535).await;
    // The server sends its settings before its first response.
    send.send_request(get("/"), true).unwrap().0.await.unwrap();
    assert_eq!(send.current_max_send_streams(), 7);
}

fn get(path: &str) -> Request<()> {
    Request::get(format!("http://a{path}")).body(()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn an_idle_connection_ends_within_a_round_trip() {
    let site = site(Limits::default());
    let (mut send, driver) = client(&site, 65_535).await;
    let (answer, _) = send.send_request(get("/"), true).unwrap();
    assert_eq!(answer.await.unwrap().status(), 200);
    let start = Instant::now();
    site.stop().await.unwrap();
    assert!(
        start.elapsed() < Duration::from_millis(20),
        "{:?}",
        start.elapsed()
    );
    driver.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn streams_in_flight_finish_and_later_ones_are_refused() {
    let site = site(Limits::default());
    let (mut send, driver) = client(&site, 65_535).await;
    let (held, _) = send.send_request(get("/hold"), true).unwrap();
    site.reached().await;
    let (stopped, body) = tokio::join!(site.stop(), async {
        site.told().await;
        // The server answers new streams until it has sent the final GOAWAY. After that, the client itself refuses to
        // open streams.
        loop {
            tokio::time::sleep(Duration::from_millis(1)).await;
            match std::future::poll_fn(|cx| send.poll_ready(cx)).await {
                Ok(()) => {}
                Err(error) => break assert!(error.is_go_away(), "{error}"),
            }
            match send.send_request(get("/"), true) {
                Ok((answer, _)) => match answer.await {
                    Ok(answer) => assert_eq!(answer.status(), 200),
                    Err(error) => break assert!(error.is_go_away() || error.is_reset(), "{error}"),
                },
                Err(_) => break,
            }
        }
        site.stage.release.add_permits(1);
        held.await
            .unwrap()
            .into_body()
            .data()
            .await
            .unwrap()
            .unwrap()
    });
    stopped.unwrap();
    assert_eq!(body, "held");
    driver.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_client_that_never_acknowledges_has_the_farewell() {
    let site = site(Limits::default());
    let mut silent = site.client().await;
    silent.says("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    site.has(1).await;
    let start = Instant::now();
    site.stop().await.unwrap();
    let took = start.elapsed();
    let farewell = Limits::default().close_ack_timeout;
    assert!(
        took >= farewell && took < farewell + Duration::from_millis(50),
        "{took:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_preface_and_then_silence_ends_with_the_pings() {
    let site = site(Limits::default());
    let mut silent = site.client().await;
    silent.says("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    site.has(1).await;
    let start = Instant::now();
    site.has(0).await;
    let Limits { ping, pong, .. } = Limits::default();
    assert!(
        start.elapsed() <= ping + pong + Duration::from_secs(1),
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn a_client_that_answers_pings_and_asks_nothing_is_idle() {
    let site = site(Limits::default());
    let (send, driver) = client(&site, 65_535).await;
    site.has(1).await;
    let start = Instant::now();
    driver.await.unwrap().unwrap();
    let idle = Limits::default().idle;
    assert!(
        start.elapsed() >= idle - idle / 16 && start.elapsed() < idle * 5 / 4,
        "{:?}",
        start.elapsed()
    );
    drop(send);
    site.has(0).await;
    assert_eq!(site.http.stats().expired, 1);
}

#[tokio::test(start_paused = true)]
async fn a_client_that_opens_no_window_is_cut_after_the_stall() {
    let site = site(Limits::default());
    let (mut send, _driver) = client(&site, 0).await;
    let (answer, _) = send.send_request(get("/"), true).unwrap();
    let answer = answer.await.unwrap();
    let start = Instant::now();
    site.has(0).await;
    let took = start.elapsed();
    let stall = Limits::default().stall;
    assert!(
        took >= stall && took < stall + Duration::from_secs(1),
        "{took:?}"
    );
    drop(answer);
}

#[tokio::test(start_paused = true)]
async fn a_large_body_is_held_until_the_window_had_room_for_it() {
    let site = site(Limits::default());
    let (mut send, _driver) = client(&site, 65_535).await;
    let (answer, _) = send.send_request(get("/big"), true).unwrap();
    let mut body = answer.await.unwrap().into_body();
    let (stopped, read) = tokio::join!(site.stop(), async {
        let mut read = 0;
        while let Some(data) = body.data().await {
            let length = data.unwrap().len();
            read += length;
            // The client pauses for longer than `close_ack_timeout`, which limits only connections without streams.
            if read < 100_000 {
                tokio::time::sleep(Limits::default().close_ack_timeout * 2).await;
            }
            body.flow_control().release_capacity(length).unwrap();
        }
        read
    });
    stopped.unwrap();
    assert_eq!(read, 20 << 20);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_never_ends_is_named_at_the_deadline_and_its_handler_dropped() {
    let site = site(Limits::default());
    let (mut send, _driver) = client(&site, 65_535).await;
    let _answer = send.send_request(get("/stuck"), true).unwrap();
    site.reached().await;
    let error = site
        .stop_within(Duration::from_secs(10))
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains("(h2, GET /stuck) for 9.0 s"), "{error}");
    assert_eq!(site.http.in_flight(), 0);
}
