//! A service with the needs of a proxy: interim responses, limits on client and service, services of one connection, and
//! refusals with a response of its own.

mod support;

use std::convert::Infallible;
use std::future::{pending, ready};
use std::num::NonZeroUsize;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use hyper::service::service_fn;
use lifecycle_http::{
    AmbiguousLength, HttpBuilder, HttpConnection, HttpServer, Limits, RequestBody, Room,
};
use lifecycle_runtime::{BoxError, Component, Connections, Context, Reason};
use support::{Client, GET, SocketFile, unix};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::Instant;

type Body = UnsyncBoxBody<Bytes, Infallible>;

fn text(text: impl Into<Bytes>) -> Response<Body> {
    Response::new(Full::new(text.into()).boxed_unsync())
}

/// Returns a body that sends `first`, and then nothing more, without an end.
fn endless(first: &'static str) -> Body {
    let first = futures_util::stream::once(ready(Ok(Frame::data(Bytes::from(first)))));
    let silence = futures_util::stream::once(pending());
    StreamBody::new(futures_util::StreamExt::chain(first, silence)).boxed_unsync()
}

fn connection(request: &Request<RequestBody>) -> HttpConnection {
    request
        .extensions()
        .get::<HttpConnection>()
        .unwrap()
        .clone()
}

async fn builder() -> HttpBuilder {
    HttpServer::bind("127.0.0.1:0").await.unwrap()
}

async fn client(server: &HttpServer) -> Client<TcpStream> {
    Client::of(&server.addresses()[0]).await
}

/// Returns a server on a unix socket, for tests with paused time.
fn unix_builder() -> (HttpBuilder, SocketFile) {
    let (listener, place) = unix();
    (HttpServer::from_listener(listener), place)
}

async fn stop(server: &HttpServer) -> Result<(), BoxError> {
    let cx = Context::new(Reason::Requested, Duration::from_secs(60));
    (&*server).cleanup(&cx).await
}

fn limits(silence: Duration) -> Limits {
    let mut limits = Limits::default();
    limits.silence = silence;
    limits
}

const SILENCE: Duration = Duration::from_secs(5);

#[tokio::test(start_paused = true)]
async fn an_answer_that_stops_half_way_is_cut_after_the_silence() {
    let (server, place) = unix_builder();
    let server = server.limits(limits(SILENCE));
    let server = server.serve_hyper(service_fn(async |_: Request<RequestBody>| {
        Ok::<_, Infallible>(Response::new(endless("begun")))
    }));
    let mut client = Client::of(&place).await;
    client.says(GET).await;
    client.hears_until("begun").await;
    let start = Instant::now();
    client.hears_until("\n").await;
    assert!(client.is_closed().await);
    assert!(start.elapsed() >= SILENCE - Duration::from_millis(10));
    while server.stats().active > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(server.stats().expired, 1, "it counts as one that was idle");
}

#[tokio::test(start_paused = true)]
async fn a_service_that_has_the_whole_request_may_be_silent() {
    let (server, place) = unix_builder();
    let server = server.limits(limits(SILENCE));
    let _server = server.serve_hyper(service_fn(async |_: Request<RequestBody>| {
        tokio::time::sleep(SILENCE * 10).await;
        Ok::<_, Infallible>(text("late"))
    }));
    let mut client = Client::of(&place).await;
    client.says(GET).await;
    assert!(client.hears().await.ends_with("late"));
}

#[tokio::test(start_paused = true)]
async fn a_service_that_does_not_read_the_body_is_cut_after_the_silence() {
    let (server, place) = unix_builder();
    let server = server.limits(limits(SILENCE));
    let server = server.serve_hyper(service_fn(async |request: Request<RequestBody>| {
        pending::<()>().await;
        drop(request);
        Ok::<_, Infallible>(text(""))
    }));
    let mut client = Client::of(&place).await;
    client
        .says("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nhalf")
        .await;
    assert!(client.is_closed().await);
    assert!(server.stats().expired <= 1);
}

fn hint(number: u16) -> HeaderMap {
    let mut fields = HeaderMap::new();
    fields.insert("hint", HeaderValue::from(number));
    fields
}

#[tokio::test]
async fn interim_responses_precede_the_final_one_and_belong_to_their_request() {
    let server = builder()
        .await
        .serve_hyper(service_fn(async |request: Request<RequestBody>| {
            let connection = connection(&request);
            assert!(connection.send_interim(StatusCode::EARLY_HINTS, &hint(1)));
            // The yield lets the server write the first interim response before the service sends the second.
            tokio::task::yield_now().await;
            assert!(connection.send_interim(StatusCode::EARLY_HINTS, &hint(2)));
            for status in [
                StatusCode::CONTINUE,
                StatusCode::SWITCHING_PROTOCOLS,
                StatusCode::OK,
            ] {
                assert!(
                    !connection.send_interim(status, &HeaderMap::new()),
                    "{status}"
                );
            }
            Ok::<_, Infallible>(text("final"))
        }));
    let mut client = client(&server).await;
    for _ in 0..2 {
        client.says(GET).await;
        for number in 1..=2 {
            let interim = client.hears_until("\r\n\r\n").await;
            assert_eq!(
                interim,
                format!("HTTP/1.1 103 Early Hints\r\nhint: {number}\r\n\r\n")
            );
        }
        assert!(client.hears().await.ends_with("final"));
    }
}

/// Another task sends them, so only the server's own wake writes them.
#[tokio::test]
async fn interim_responses_do_not_wait_for_the_final_one() {
    let (send, mut sends) = tokio::sync::mpsc::channel(1);
    let (tell, mut told) = tokio::sync::mpsc::channel(1);
    let server = builder()
        .await
        .serve_hyper(service_fn(move |request: Request<RequestBody>| {
            let tell = tell.clone();
            async move {
                tell.send(connection(&request)).await.unwrap();
                pending::<Result<Response<Body>, Infallible>>().await
            }
        }));
    tokio::spawn(async move {
        let connection = told.recv().await.unwrap();
        while let Some(number) = sends.recv().await {
            connection.send_interim(StatusCode::EARLY_HINTS, &hint(number));
        }
    });
    let mut client = client(&server).await;
    client.says(GET).await;
    for number in 1..=3 {
        send.send(number).await.unwrap();
        let interim = client.hears_until("\r\n\r\n");
        let interim = tokio::time::timeout(Duration::from_secs(60), interim).await;
        assert_eq!(
            interim.expect("the server was woken"),
            format!("HTTP/1.1 103 Early Hints\r\nhint: {number}\r\n\r\n")
        );
    }
}

#[tokio::test]
async fn a_service_may_refuse_an_ambiguous_length_in_its_own_words() {
    let server = builder().await.pass_ambiguous().serve_hyper(service_fn(
        async |request: Request<RequestBody>| {
            let marked = request.extensions().get::<AmbiguousLength>().is_some();
            Ok::<_, Infallible>(text(format!("ambiguous: {marked}")))
        },
    ));
    let mut client = client(&server).await;
    client.says(GET).await;
    assert!(client.hears().await.ends_with("ambiguous: false"));
    client
        .says("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n")
        .await;
    let answer = client.hears_all().await;
    assert!(
        answer.contains("connection: close") && answer.ends_with("ambiguous: true"),
        "{answer}"
    );
}

#[tokio::test]
async fn a_service_may_have_a_connection_close_after_a_response() {
    let server = builder()
        .await
        .serve_hyper(service_fn(async |_: Request<RequestBody>| {
            let mut response = text("last");
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(CONNECTION, close);
            Ok::<_, Infallible>(response)
        }));
    let mut client = client(&server).await;
    client.says(GET).await;
    assert!(client.hears_all().await.ends_with("last"));
}

#[tokio::test(start_paused = true)]
async fn streams_are_left_to_a_service_that_ends_them_itself() {
    let (server, place) = unix_builder();
    let server =
        server
            .end_streams(false)
            .serve_hyper(service_fn(async |_: Request<RequestBody>| {
                let mut response = Response::new(endless("data: 1\n\n"));
                let kind = HeaderValue::from_static("text/event-stream");
                response.headers_mut().insert(CONTENT_TYPE, kind);
                Ok::<_, Infallible>(response)
            }));
    let mut client = Client::of(&place).await;
    client.says(GET).await;
    client.hears_until("data: 1\n\n\r\n").await;
    let (stopped, rest) = tokio::join!(stop(&server), client.hears_all());
    assert!(stopped.is_err(), "it was cut at the deadline");
    assert_eq!(rest, "");
}

#[tokio::test]
async fn a_service_learns_of_both_addresses_and_the_last_byte() {
    let server = builder()
        .await
        .serve_hyper(service_fn(async |request: Request<RequestBody>| {
            let connection = connection(&request);
            let now = Instant::now();
            assert!(connection.last_byte() <= now);
            assert!(now - connection.last_byte() < Duration::from_secs(60));
            let local = connection.local_addr().unwrap();
            Ok::<_, Infallible>(text(format!("{} to {local}", connection.peer())))
        }));
    let mut client = client(&server).await;
    client.says(GET).await;
    let (peer, local) = (client.0.local_addr().unwrap(), server.addresses()[0]);
    let answer = client.hears().await;
    assert!(answer.ends_with(&format!("{peer} to {local}")), "{answer}");
    let detached = HttpConnection::detached(peer);
    assert_eq!(detached.peer(), &peer.into());
    let now = Instant::now();
    assert!(detached.last_byte() >= now);
}

#[tokio::test]
async fn each_connection_may_have_a_service_of_its_own() {
    let made = AtomicUsize::new(0);
    let server = builder().await.serve_each(move |connection| {
        let number = made.fetch_add(1, Relaxed);
        if number == 2 {
            return Err("no third");
        }
        let connection = connection.clone();
        Ok(service_fn(move |request: Request<RequestBody>| {
            assert!(connection.connection().bytes().0 > 0);
            let shown = request.extensions().get::<HttpConnection>().is_some();
            ready(Ok::<_, Infallible>(text(format!("{number} {shown}!"))))
        }))
    });
    let mut clients = [client(&server).await, client(&server).await];
    for (number, client) in clients.iter_mut().enumerate() {
        let expected = format!("\r\n{number} false!");
        for _ in 0..2 {
            client.says(GET).await;
            let heard = client.hears_until("!").await;
            assert!(heard.ends_with(&expected), "{heard}");
        }
    }
    let mut third = client(&server).await;
    third.says(GET).await;
    assert!(third.is_closed().await);
    while server.stats().active > 2 {
        tokio::task::yield_now().await;
    }
    assert_eq!(server.stats().failed, 1);
    stop(&server).await.unwrap();
}

#[tokio::test]
async fn the_stages_of_connections_are_shown_where_that_is_asked_for() {
    let server = builder()
        .await
        .show_stages("the upstream")
        .serve_hyper(service_fn(async |request: Request<RequestBody>| {
            let doing = connection(&request).connection().about().unwrap();
            Ok::<_, Infallible>(text(doing))
        }));
    let mut client = client(&server).await;
    client.gets("/slow?token=secret").await;
    let answer = client.hears().await;
    assert!(
        answer.ends_with("\r\n\r\nGET /slow, waiting for the upstream for 0.0 s"),
        "{answer}"
    );
}

#[tokio::test]
async fn a_server_with_connections_of_somebody_else_only_stops_accepting() {
    let mut connections = Connections::new(NonZeroUsize::new(10).unwrap());
    let server = builder()
        .await
        .acceptor(connections.acceptor())
        .serve_hyper(service_fn(async |_: Request<RequestBody>| {
            Ok::<_, Infallible>(text("hello"))
        }));
    let mut client = client(&server).await;
    client.says(GET).await;
    client.hears().await;
    stop(&server).await.unwrap();
    client.says(GET).await;
    let answer = client.hears().await;
    assert!(!answer.contains("connection: close"), "{answer}");
    let cx = Context::new(Reason::Requested, Duration::from_secs(60));
    let (drained, closed) = tokio::join!(connections.cleanup(&cx), client.is_closed());
    drained.unwrap();
    assert!(closed);
}

#[tokio::test]
async fn a_new_connection_takes_the_place_of_one_that_does_not_stay() {
    let room = Room::new(2, 1);
    let places = room.clone();
    let server = builder()
        .await
        .connections(NonZeroUsize::new(8).unwrap())
        .room(&room)
        .serve_hyper(service_fn(move |request: Request<RequestBody>| {
            let stay = places.stay(&connection(&request));
            async move {
                Ok::<_, Infallible>(Response::new(match stay {
                    Some(stay) => stay.body(endless("stays")).boxed_unsync(),
                    None => Full::from("full").boxed_unsync(),
                }))
            }
        }));
    let mut stays = client(&server).await;
    stays.says(GET).await;
    stays.hears_until("stays").await;
    let mut silent = client(&server).await;
    while server.stats().active < 2 {
        tokio::task::yield_now().await;
    }
    let mut probe = client(&server).await;
    probe.says(GET).await;
    assert!(probe.hears().await.ends_with("full"));
    assert!(silent.is_closed().await);
    assert_eq!(server.stats().rejected, 0);
    drop(stays);
    // The place of `stays` in the room is free now, so a request of `probe` can stay soon.
    loop {
        probe.says(GET).await;
        let head = probe.hears_until("\r\n\r\n").await;
        if head.contains("chunked") {
            break;
        }
        probe.0.read_exact(&mut [0; 4]).await.unwrap();
    }
}
