//! Connections are spread over the runtimes that a server is given, and each stays on its runtime.

mod support;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use http::{Request, Response};
use hyper::service::service_fn;
use lifecycle_http::{HttpServer, RawStream, RequestBody, StreamServer};
use lifecycle_runtime::{Component, Connection, Context, Reason, Workers};
use support::{Client, GET};
use tokio::io::AsyncWriteExt;

fn workers() -> Workers {
    Workers::start(NonZeroUsize::new(2).unwrap()).unwrap()
}

fn minute() -> Context {
    Context::new(Reason::Requested, Duration::from_secs(60))
}

fn thread_name() -> String {
    thread::current().name().unwrap_or_default().to_owned()
}

/// Answers with the names of the threads that run the service, its future, and a task that it spawns.
async fn threads(_: Request<RequestBody>) -> Result<Response<String>, Infallible> {
    let mut names = vec![thread_name()];
    names.push(tokio::spawn(async { thread_name() }).await.unwrap());
    tokio::time::sleep(Duration::from_millis(1)).await;
    names.push(thread_name());
    names.dedup();
    Ok(Response::new(format!("<{}>", names.join(" "))))
}

#[tokio::test]
async fn each_connection_is_served_on_the_runtime_with_the_fewest_tasks() {
    let mut workers = workers();
    let server = HttpServer::bind("127.0.0.1:0").await.unwrap();
    let server = server
        .runtimes(workers.handles())
        .serve_hyper(service_fn(threads));
    let mut clients = Vec::new();
    let mut served = BTreeMap::new();
    for _ in 0..6 {
        let mut client = Client::of(&server.addresses()[0]).await;
        for _ in 0..2 {
            client.says(GET).await;
            let response = client.hears_until(">").await;
            let name = response.split_once('<').unwrap().1.to_owned();
            *served.entry(name).or_insert(0) += 1;
        }
        clients.push(client);
    }
    let even = BTreeMap::from([("worker-0>".to_owned(), 6), ("worker-1>".to_owned(), 6)]);
    assert_eq!(served, even);

    // The connections are told to close and awaited as always. Then nothing is left on the workers.
    (&server).cleanup(&minute()).await.unwrap();
    for mut client in clients {
        assert_eq!(client.hears_all().await, "");
    }
    workers.cleanup(&minute()).await.unwrap();
}

#[tokio::test]
async fn streams_are_spread_too() {
    let workers = workers();
    let names = Arc::new(Mutex::new(Vec::new()));
    let seen = names.clone();
    let serve = move |mut stream: RawStream, connection: Connection| {
        let seen = seen.clone();
        async move {
            seen.lock().unwrap().push(thread_name());
            let _ = stream.write_all(b"!").await;
            connection.cancelled().await;
        }
    };
    let server = StreamServer::bind("127.0.0.1:0").await.unwrap();
    let server = server.runtimes(workers.handles()).serve(serve);
    let mut clients = Vec::new();
    for _ in 0..4 {
        let mut client = Client::of(&server.addresses()[0]).await;
        client.hears_until("!").await;
        clients.push(client);
    }
    names.lock().unwrap().sort();
    assert_eq!(
        *names.lock().unwrap(),
        ["worker-0", "worker-0", "worker-1", "worker-1"]
    );
    (&server).cleanup(&minute()).await.unwrap();
}

#[tokio::test]
async fn a_connection_whose_runtime_has_ended_is_closed() {
    let mut workers = workers();
    let server = HttpServer::bind("127.0.0.1:0").await.unwrap();
    let server = server
        .runtimes(workers.handles())
        .serve_hyper(service_fn(threads));
    workers.cleanup(&minute()).await.unwrap();
    let mut client = Client::of(&server.addresses()[0]).await;
    assert_eq!(client.hears_all().await, "");
    (&server).cleanup(&minute()).await.unwrap();
    assert_eq!(server.stats().active, 0);
}
