//! `SseBody` ends the event streams of a server other than `HttpServer` between two events.

use std::process::Stdio;

use axum::body::Body;
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Router, serve};
use http::{Request, Response};
use lifecycle_http::SseBody;
use lifecycle_runtime::{Reason, ShutdownHandle};
use lifecycle_wire_tests::app::app;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::TcpListener;
use tokio::process::Command;
use tower::ServiceExt;

async fn events(handle: ShutdownHandle) -> Response<Body> {
    let request = Request::get("/events").body(Body::empty()).unwrap();
    let answer = app().oneshot(request).await.unwrap();
    let ended = |body| SseBody::until(body, handle.token().cancelled_owned());
    answer.map(ended).into_response()
}

#[tokio::test]
async fn an_event_stream_of_axums_own_server_ends_in_order() {
    let handle = ShutdownHandle::new();
    let asked = handle.clone();
    let app = Router::new().route("/", get(move || events(asked)));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let serving = serve(listener, app).with_graceful_shutdown(handle.token().cancelled_owned());
    let serving = tokio::spawn(serving.into_future());

    let mut curl = Command::new("curl")
        .args(["-fsSN", &url])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut said = BufReader::new(curl.stdout.take().unwrap());
    let mut first = String::new();
    said.read_line(&mut first).await.unwrap();
    assert_eq!(first, "data: tick\n");
    handle.request(Reason::Requested);
    serving.await.unwrap().unwrap();

    let mut rest = String::new();
    said.read_to_string(&mut rest).await.unwrap();
    assert!(curl.wait().await.unwrap().success(), "{rest}");
    let (events, retry) = rest
        .rsplit_once("retry: ")
        .expect("it is told when to come back");
    assert!(events.ends_with("\n\n") || events == "\n", "{rest}");
    assert!(retry.trim_end().parse::<u64>().is_ok(), "{rest}");
}
