//! Upgrades that depend on an upstream.

mod support;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, UPGRADE};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use lifecycle_http::{HttpBuilder, HttpServer, RequestBody, Upgrade};
use lifecycle_runtime::{BoxError, Component, Context, Reason};
use support::{Client, unix};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::TcpStream;

type Body = Full<Bytes>;

async fn builder() -> HttpBuilder {
    HttpServer::bind("127.0.0.1:0").await.unwrap()
}

async fn client(server: &HttpServer) -> Client<TcpStream> {
    Client::of(&server.addresses()[0]).await
}

async fn stop(server: &HttpServer) -> Result<(), BoxError> {
    let cx = Context::new(Reason::Requested, Duration::from_secs(60));
    (&*server).cleanup(&cx).await
}

fn text(text: &'static str) -> Response<Body> {
    Response::new(Full::new(text.into()))
}

fn switch() -> Response<Body> {
    let mut response = text("");
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(UPGRADE, HeaderValue::from_static("echo"));
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    response
}

const ASKS: &str = "GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";

#[tokio::test]
async fn an_upgrade_of_two_sides_begins_when_the_other_side_has_agreed() {
    let (upstream, mut far) = tokio::io::duplex(1024);
    let upstream = std::sync::Mutex::new(Some(upstream));
    let server =
        builder()
            .await
            .serve_hyper(service_fn(move |mut request: Request<RequestBody>| {
                let upgrade = Upgrade::take(&mut request);
                // The upstream refuses the first request, so the upgrade of that request is dropped.
                let upstream = match request.headers().contains_key("refuse") {
                    true => None,
                    false => upstream.lock().unwrap().take(),
                };
                async move {
                    let Some(mut upstream) = upstream else {
                        return Ok::<_, Infallible>(text("refused"));
                    };
                    let relay = async move |mut client, _| {
                        copy_bidirectional(&mut client, &mut upstream)
                            .await
                            .map(drop)
                    };
                    upgrade.unwrap().run(relay).unwrap();
                    Ok(switch())
                }
            }));
    let mut client = client(&server).await;
    client
        .says(&ASKS.replace("host", "refuse: 1\r\nhost"))
        .await;
    assert!(client.hears().await.ends_with("refused"));
    client.says(ASKS).await;
    let head = client.hears_until("\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");

    client.says("up!").await;
    let mut heard = [0; 3];
    far.read_exact(&mut heard).await.unwrap();
    assert_eq!(&heard, b"up!");
    far.write_all(b"down!").await.unwrap();
    assert_eq!(client.hears_until("!").await, "down!");
    assert_eq!(server.stats().active, 1);
    drop(far);
    drop(client);
    stop(&server).await.unwrap();
}

#[tokio::test]
async fn an_error_of_an_upgrade_is_one_of_its_connection() {
    let server = builder().await;
    let server = server.serve_hyper(service_fn(async |mut request: Request<RequestBody>| {
        let upgrade = Upgrade::take(&mut request).unwrap();
        let fails = async |_, _| Err::<(), BoxError>("the other side broke".into());
        upgrade.run(fails).unwrap();
        Ok::<_, Infallible>(switch())
    }));
    let mut client = client(&server).await;
    client.says(ASKS).await;
    client.hears_until("\r\n\r\n").await;
    assert!(client.is_closed().await);
    while server.stats().active > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(server.stats().failed, 1);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_its_holder_never_touches_is_closed_with_its_connection() {
    let (listener, place) = unix();
    let (held, mut holder) = tokio::sync::mpsc::channel(1);
    let server = HttpServer::from_listener(listener);
    let server = server.serve_hyper(service_fn(move |mut request: Request<RequestBody>| {
        let upgrade = hyper::upgrade::on(&mut request);
        let held = held.clone();
        // A task that the server does not know holds the stream, as in other libraries.
        tokio::spawn(async move { held.send(upgrade.await.unwrap()).await });
        std::future::ready(Ok::<_, Infallible>(switch()))
    }));
    let mut client = Client::of(&place).await;
    client.says(ASKS).await;
    client.hears_until("\r\n\r\n").await;
    let stream = holder.recv().await.unwrap();
    let cx = Context::new(Reason::Requested, Duration::from_secs(1));
    assert!((&server).cleanup(&cx).await.is_err(), "it was cut");
    let closed = tokio::time::timeout(Duration::from_secs(60), client.is_closed());
    assert_eq!(closed.await, Ok(true));
    let mut stream = TokioIo::new(stream);
    let error = stream.write(b"late").await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionAborted);
}

#[tokio::test]
async fn an_upgrade_whose_connection_ends_before_it_begins_is_dropped() {
    let held = Arc::new(());
    let told = Arc::clone(&held);
    let server = builder().await;
    let server = server.serve_hyper(service_fn(move |mut request: Request<RequestBody>| {
        let upgrade = Upgrade::take(&mut request).unwrap();
        let held = Arc::clone(&held);
        let runs = async move |_, _| drop(held);
        upgrade.run(runs).unwrap();
        std::future::ready(Err::<Response<Body>, _>("no answer after all"))
    }));
    let mut client = client(&server).await;
    client.says(ASKS).await;
    assert!(client.is_closed().await);
    stop(&server).await.unwrap();
    drop(server);
    assert_eq!(Arc::strong_count(&told), 1);
}

#[tokio::test]
async fn an_upgrade_that_comes_after_its_connection_is_refused_and_dropped() {
    let (given, mut upgrades) = tokio::sync::mpsc::channel(1);
    let server = builder().await;
    let server = server.serve_hyper(service_fn(move |mut request: Request<RequestBody>| {
        given.try_send(Upgrade::take(&mut request)).unwrap();
        std::future::ready(Err::<Response<Body>, _>("no answer"))
    }));
    let mut client = client(&server).await;
    client.says(ASKS).await;
    assert!(client.is_closed().await);
    stop(&server).await.unwrap();
    let held = Arc::new(());
    let kept = Arc::clone(&held);
    let upgrade = upgrades.recv().await.unwrap().unwrap();
    assert!(upgrade.run(async move |_, _| drop(kept)).is_err());
    assert_eq!(Arc::strong_count(&held), 1);
}
