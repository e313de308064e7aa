//! `aws-sdk-sqs`: a client of a queue, and the task that handles its messages.
//!
//! - **Cleanup**: none for the client. Cancel a token that the task looks at between two receives, and await the task.
//! - **Lost without it**: time: a message that was received but not deleted comes again after its visibility timeout (30 s by default), and is handled twice.
//! - **Repeated**: yes: the token stays cancelled, and the task has ended.
//! - **Waits for**: the messages that are being handled, and the receive that is under way, up to its `wait_time_seconds`. Do not cut a receive: messages that it was about to bring would stay invisible for their timeout.
//! - **Order**: before everything that handlers use.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::thread;

use aws_sdk_sqs::Client;
use aws_sdk_sqs::config::{Credentials, Region};
use lifecycle_runtime::{GracefulShutdown, ShutdownState};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::steps::{assert_clean, begin, in_a_process};

#[derive(GracefulShutdown)]
struct Server {
    #[shutdown(priority = 0)]
    stop: CancellationToken,
    #[shutdown(priority = 1, timeout = "15s")]
    messages: JoinHandle<()>,
    #[shutdown(state)]
    state: ShutdownState,
}

/// Starts a queue that has a message for every receive. Returns its URL and the list of the requests that it gets, in
/// order.
fn queue() -> (String, Arc<Mutex<Vec<&'static str>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let asked = Arc::<Mutex<Vec<_>>>::default();
    let seen = Arc::clone(&asked);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let seen = Arc::clone(&seen);
            thread::spawn(move || serve(&stream, &seen));
        }
    });
    (url, asked)
}

/// Answers the requests of one connection, until the client closes it.
fn serve(mut stream: &TcpStream, seen: &Mutex<Vec<&'static str>>) {
    let mut reader = BufReader::new(stream);
    loop {
        let (mut length, mut receives) = (0, false);
        loop {
            let mut line = String::new();
            match reader.read_line(&mut line) {
                Ok(read) if read > 0 => {}
                _ => return,
            }
            let line = line.trim();
            if let Some((name, value)) = line.split_once(": ") {
                match name.to_ascii_lowercase().as_str() {
                    "content-length" => length = value.parse().unwrap(),
                    "x-amz-target" => receives = value == "AmazonSQS.ReceiveMessage",
                    _ => {}
                }
            }
            if line.is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        if reader.read_exact(&mut body).is_err() {
            return;
        }
        let (name, answer) = if receives {
            let message = r#"{"MessageId":"1","ReceiptHandle":"1","Body":"an order"}"#;
            ("receive", format!(r#"{{"Messages":[{message}]}}"#))
        } else {
            ("delete", "{}".to_owned())
        };
        seen.lock().unwrap().push(name);
        let head = "HTTP/1.1 200 OK\r\ncontent-type: application/x-amz-json-1.0\r\ncontent-length";
        let answer = format!("{head}: {}\r\n\r\n{answer}", answer.len());
        if stream.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

/// Two notifications by which a handler and the test wait for each other.
#[derive(Default)]
struct Turn {
    begun: Notify,
    go_on: Notify,
}

async fn handle_messages(client: Client, url: String, stop: CancellationToken, turn: Arc<Turn>) {
    while !stop.is_cancelled() {
        let receive = client.receive_message().queue_url(&url);
        let received = receive.wait_time_seconds(10).send().await.unwrap();
        for message in received.messages() {
            turn.begun.notify_one();
            turn.go_on.notified().await;
            let delete = client.delete_message().queue_url(&url);
            let handle = message.receipt_handle().unwrap();
            delete.receipt_handle(handle).send().await.unwrap();
        }
    }
}

/// Starts a server, and waits until it is handling a message.
async fn server(url: String, turn: &Arc<Turn>) -> Server {
    let config = aws_sdk_sqs::Config::builder()
        .behavior_version_latest()
        .region(Region::from_static("local"))
        .credentials_provider(Credentials::new("key", "secret", None, None, "test"))
        .endpoint_url(&url)
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .build();
    let client = Client::from_conf(config);
    let stop = CancellationToken::new();
    let messages = handle_messages(client, url, stop.clone(), Arc::clone(turn));
    let messages = tokio::spawn(messages);
    turn.begun.notified().await;
    Server {
        stop,
        messages,
        state: ShutdownState::new(),
    }
}

#[tokio::test]
async fn the_handled_message_is_deleted_and_no_other_is_received() {
    let (url, asked) = queue();
    let turn = Arc::<Turn>::default();
    let mut server = server(url, &turn).await;
    let mut shutdown = pin!(server.shutdown());
    assert!(begin(shutdown.as_mut()).await.is_pending());
    turn.go_on.notify_one();
    assert_clean(&shutdown.await);
    assert_eq!(*asked.lock().unwrap(), ["receive", "delete"]);
}

#[test]
fn after_a_drop_alone_the_message_is_not_deleted() {
    let (url, asked) = queue();
    let turn = Arc::<Turn>::default();
    in_a_process(async {
        drop(server(url, &turn).await);
        turn.go_on.notify_one();
    });
    assert_eq!(*asked.lock().unwrap(), ["receive"]);
}
