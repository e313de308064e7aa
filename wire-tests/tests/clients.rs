//! Clients of other projects see a shutdown without errors: hyper's pool, curl, and python's h2 and websockets.

use std::net::SocketAddr;
use std::process::{Output, Stdio};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use lifecycle_wire_tests::app::{ANSWER, answer};
use lifecycle_wire_tests::subject::{Kind, Subject};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::oneshot;
use tokio::time::sleep;

fn start(program: &str, arguments: &[&str]) -> Child {
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
        .spawn()
        .unwrap_or_else(|error| panic!("{program}: {error}; `.ci/wire` installs it"))
}

fn ok(output: Output) -> Vec<u8> {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {said}", output.status);
    output.stdout
}

/// Starts a python client, and waits until the client says that the test may shut the server down.
async fn python(script: &str, subject: &Subject) -> Child {
    let path = format!("{}/clients/{script}", env!("CARGO_MANIFEST_DIR"));
    let mut child = start(
        "/usr/bin/python3",
        &[&path, &subject.address.port().to_string()],
    );
    let mut said = String::new();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    stdout.read_line(&mut said).await.unwrap();
    assert_eq!(said, "ready\n");
    child.stdout = Some(stdout.into_inner());
    child
}

/// Sends requests with hyper's pooled client until the listening socket is closed. Returns the number of responses.
async fn pooled(address: SocketAddr, h2: bool, began: oneshot::Sender<()>) -> usize {
    let client = Client::builder(TokioExecutor::new())
        .http2_only(h2)
        .build_http::<Empty<Bytes>>();
    let (mut began, mut answers) = (Some(began), 0);
    loop {
        let uri = format!("http://{address}/slow?ms=20").parse().unwrap();
        let error = match client.get(uri).await {
            Ok(answered) => {
                let body = answered.into_body().collect().await.unwrap().to_bytes();
                assert_eq!(body, answer());
                answers += 1;
                began.take().map(|began| began.send(()));
                continue;
            }
            Err(error) => error,
        };
        assert!(error.is_connect(), "a request was lost: {error:?}");
        return answers;
    }
}

#[tokio::test]
async fn hypers_pooled_client_loses_no_request_until_the_socket_is_closed() {
    for h2 in [false, true] {
        let subject = Subject::start(Kind::Ours).await;
        let (began, begun) = oneshot::channel();
        let client = tokio::spawn(pooled(subject.address, h2, began));
        begun.await.unwrap();
        assert!(subject.stop().await.is_some());
        assert!(client.await.unwrap() > 0);
    }
}

#[tokio::test]
async fn curl_gets_its_response() {
    for version in ["--http1.1", "--http2-prior-knowledge"] {
        let subject = Subject::start(Kind::Ours).await;
        let url = format!("http://{}/slow?ms=500", subject.address);
        let curl = start("curl", &["-fsS", version, &url]);
        sleep(Duration::from_millis(250)).await;
        let (took, output) = tokio::join!(subject.stop(), curl.wait_with_output());
        assert!(took.is_some());
        assert_eq!(ok(output.unwrap()), answer());
    }
}

#[tokio::test]
async fn curl_sees_an_event_stream_end_in_order() {
    let subject = Subject::start(Kind::Ours).await;
    let url = format!("http://{}/events", subject.address);
    let curl = start("curl", &["-fsSN", &url]);
    sleep(Duration::from_millis(250)).await;
    let (took, output) = tokio::join!(subject.stop(), curl.wait_with_output());
    assert!(took.is_some());
    let text = String::from_utf8(ok(output.unwrap())).unwrap();
    assert!(
        text.starts_with("data: tick\n\n") && text.contains("retry: "),
        "{text}"
    );
}

#[tokio::test]
async fn python_h2_sees_two_goaways_and_its_whole_stream() {
    let subject = Subject::start(Kind::Ours).await;
    let client = python("h2_goaway.py", &subject).await;
    let (took, output) = tokio::join!(subject.stop(), client.wait_with_output());
    assert!(took.is_some());
    let text = String::from_utf8(ok(output.unwrap())).unwrap();
    assert_eq!(
        text.trim(),
        format!("goaway 2147483647, goaway 1, {ANSWER} bytes, closed")
    );
}

#[tokio::test]
async fn python_websockets_sees_close_code_1001() {
    let subject = Subject::start(Kind::Ours).await;
    let client = python("websocket.py", &subject).await;
    let (took, output) = tokio::join!(subject.stop(), client.wait_with_output());
    assert!(took.is_some());
    assert_eq!(
        String::from_utf8(ok(output.unwrap())).unwrap().trim(),
        "closed with 1001"
    );
}
