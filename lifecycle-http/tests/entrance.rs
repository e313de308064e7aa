//! The admission of connections and the end of accepting, for HTTP servers and for stream servers.

mod support;

use std::future::pending;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use lifecycle_http::{HttpServer, Listener, RawStream, Refusal, StreamBuilder, StreamServer};
use lifecycle_runtime::{BoxError, Component, Connection, Connections, Context, MustClean, Reason};
use support::{Client, GET, Place, serve_tcp, unix};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

fn minute() -> Context {
    Context::new(Reason::Requested, Duration::from_secs(60))
}

async fn builder() -> StreamBuilder {
    StreamServer::bind("127.0.0.1:0").await.unwrap()
}

/// Echoes bytes until the client closes, or until the connection should close.
async fn echo(mut stream: RawStream, connection: Connection) -> Result<(), BoxError> {
    let mut buffer = [0; 64];
    loop {
        tokio::select! {
            biased;
            read = stream.read(&mut buffer) => match read? {
                0 => return Ok(()),
                length => stream.write_all(&buffer[..length]).await?,
            },
            _ = connection.cancelled() => return Ok(stream.write_all(b"bye").await?),
        }
    }
}

async fn client(server: &StreamServer) -> Client<TcpStream> {
    Client::of(&server.addresses()[0]).await
}

#[tokio::test]
async fn streams_are_told_to_close_and_awaited() {
    let server = builder().await.serve(echo);
    let mut client = client(&server).await;
    client.says("hello!").await;
    assert_eq!(client.hears_until("!").await, "hello!");
    let cx = minute();
    let (stopped, heard) = tokio::join!(async { (&server).cleanup(&cx).await }, client.hears_all());
    stopped.unwrap();
    assert_eq!(heard, "bye");
    assert_eq!(server.stats().accepted, 1);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_stays_is_cut_at_the_deadline_and_named() {
    let (listener, place) = unix();
    let server = StreamServer::from_listeners([listener.into()]).serve(
        |stream: RawStream, connection: Connection| async move {
            connection.set_protocol("TLS");
            pending::<()>().await;
            drop(stream);
        },
    );
    let mut client = Client::of(&place).await;
    while server.stats().active == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let error = (&server).cleanup(&minute()).await.unwrap_err().to_string();
    assert!(error.contains("(TLS)"), "{error}");
    assert!(client.is_closed().await);
}

#[tokio::test(start_paused = true)]
async fn a_stream_without_a_touch_is_told_to_close() {
    let idle = Duration::from_secs(60);
    let (listener, place) = unix();
    let server = StreamServer::from_listeners([listener.into()]);
    let server = server.idle(idle).serve(echo);
    let mut client = Client::of(&place).await;
    assert_eq!(client.hears_all().await, "bye");
    while server.stats().active > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(server.stats().expired, 1);
}

#[tokio::test]
async fn an_error_of_a_stream_is_counted() {
    let server = builder()
        .await
        .serve(async |_: RawStream, _: Connection| Err::<(), BoxError>("no".into()));
    assert!(client(&server).await.is_closed().await);
    while server.stats().failed == 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_client_that_is_not_admitted_gets_the_reason_and_does_not_count_as_a_connection() {
    let full = Arc::new(AtomicBool::new(false));
    let admits = full.clone();
    let builder = HttpServer::bind("127.0.0.1:0")
        .await
        .unwrap()
        .connections(NonZeroUsize::MIN)
        .admit(move || admits.load(Ordering::SeqCst))
        .refuse_with(|why| {
            Bytes::from_static(match why {
                Refusal::Full => b"full",
                _ => b"busy",
            })
        });
    let site = serve_tcp(builder);
    assert_eq!(site.client().await.hears_all().await, "busy");
    assert_eq!(site.http.stats().accepted + site.http.stats().rejected, 0);

    full.store(true, Ordering::SeqCst);
    let mut served = site.client().await;
    served.says(GET).await;
    assert!(served.hears().await.ends_with("hello"));
    assert_eq!(site.client().await.hears_all().await, "full");
    assert_eq!(site.http.stats().rejected, 1);
}

#[tokio::test]
async fn after_its_end_of_accepting_a_server_goes_on_with_the_connections_it_has() {
    let end = Arc::new(Notify::new());
    let ended = end.clone();
    let builder = HttpServer::bind("127.0.0.1:0").await.unwrap();
    let site = serve_tcp(builder.accept_until(async move { ended.notified().await }));
    let mut kept = site.client().await;
    kept.says(GET).await;
    assert!(kept.hears().await.ends_with("hello"));

    end.notify_one();
    while site.place.connect().await.is_ok() {
        tokio::task::yield_now().await;
    }
    kept.says(GET).await;
    let answer = kept.hears().await;
    assert!(
        answer.ends_with("hello") && !answer.contains("connection: close"),
        "{answer}"
    );
    site.stop().await.unwrap();
}

#[tokio::test]
async fn a_socket_that_is_shared_can_be_duplicated_only_while_it_listens() {
    let tcp = Arc::new(TcpListener::bind("127.0.0.1:0").await.unwrap());
    let shared = Arc::downgrade(&tcp);
    let server = StreamServer::from_listeners([Listener::from(tcp)]).serve(echo);
    assert!(shared.upgrade().is_some());
    (&server).cleanup(&minute()).await.unwrap();
    assert!(shared.upgrade().is_none());
    assert!(server.addresses()[0].connect().await.is_err());
}

#[tokio::test]
async fn a_socket_that_somebody_holds_at_the_end_of_accepting_loses_no_client() {
    let queue = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = Client::of(&queue.local_addr().unwrap()).await;
    client.says("queued!").await;
    support::has_queued(&queue);
    // Tokio knows the socket only from here on. It does not look for clients before the first pause of all tasks, and
    // accepting ends before that. So the client waits in the kernel's queue when accepting ends.
    queue.set_nonblocking(true).unwrap();
    let tcp = Arc::new(TcpListener::from_std(queue).unwrap());
    let held = tcp.clone();
    let _server = StreamServer::from_listeners([Listener::from(tcp)])
        .accept_until(async {})
        .serve(echo);
    assert_eq!(client.hears_until("!").await, "queued!");
    drop(held);
}

/// Compiles only for types that a strict plan allows as fields.
fn must_be_cleaned(_: &impl MustClean) {}

#[tokio::test]
async fn servers_that_share_connections_leave_them_to_their_own_step() {
    let mut connections = Connections::new(NonZeroUsize::new(2).unwrap());
    let mut servers = Vec::new();
    for _ in 0..2 {
        let server = builder().await.acceptor(connections.acceptor()).serve(echo);
        must_be_cleaned(&server);
        servers.push(server);
    }
    let mut clients = Vec::new();
    for server in &servers {
        let mut client = client(server).await;
        client.says("hello!").await;
        client.hears_until("!").await;
        clients.push(client);
    }
    assert!(client(&servers[0]).await.is_closed().await, "there are two");
    for server in &mut servers {
        server.cleanup(&minute()).await.unwrap();
    }
    for client in &mut clients {
        client.says("again!").await;
        assert_eq!(client.hears_until("!").await, "again!");
    }
    let cx = minute();
    let (drained, first) = tokio::join!(connections.cleanup(&cx), clients[0].hears_all());
    drained.unwrap();
    assert_eq!(first, "bye");
}
