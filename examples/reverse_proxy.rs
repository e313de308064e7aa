//! A reverse proxy in one file. It accepts requests, forwards and records them, and shuts down in order. First every
//! client is answered, then the record is written to disk, then the connections to the upstream are closed.
//! `examples/proxy` is a complete proxy of the same design.
//!
//! `cargo run -p lifecycle-examples --example reverse_proxy 127.0.0.1:8080 127.0.0.1:8000 record.log`

use std::io;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt as _, Either, Full};
use hyper::body::{Body, Bytes};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::http::uri::{Authority, PathAndQuery, Scheme, Uri};
use hyper::{Request, Response, Version, rt::Executor, service::service_fn};
use hyper_util::client::legacy::{self, connect::HttpConnector};
use lifecycle_http::{HttpServer, RequestBody};
use lifecycle_runtime::{
    BoxError, GracefulShutdown, Report, Runner, ShutdownState, Spawner, TaskGroup,
};
use tokio::fs::File;
use tokio::io::{AsyncWriteExt as _, BufWriter};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// The longest time from a request until the upstream's response begins.
const RESPONSE_LIMIT: Duration = Duration::from_secs(30);

type Client = legacy::Client<HttpConnector, RequestBody>;

#[derive(GracefulShutdown)]
#[shutdown(strict, timeout = "25s")]
struct ReverseProxy {
    /// Stops accepting connections and drains the open ones, in the time that the later steps leave of the 25 s.
    #[shutdown(priority = 10, best_effort)]
    http: HttpServer,
    /// Writes the last lines of the record to disk. The task ends when the last sender of lines is dropped.
    #[shutdown(priority = 20, timeout = "3s")]
    recorder: JoinHandle<io::Result<()>>,
    /// The HTTP client to the upstream. It has no `close`; its connections end when its last clone is dropped.
    #[shutdown(after = recorder, timeout = "100ms", take, with = drop)]
    pool: Option<Client>,
    #[shutdown(after = pool, timeout = "1s")]
    pooled: TaskGroup,
    #[shutdown(state)]
    state: ShutdownState,
}

#[tokio::main]
async fn main() -> Report {
    let mut arguments = std::env::args().skip(1);
    let mut argument = |default: &str| arguments.next().unwrap_or(default.into());
    let listen = argument("127.0.0.1:8080");
    let (upstream, record) = (argument("127.0.0.1:8000"), argument("record.log"));
    // `build` registers the signals before the first client can connect.
    let report = Runner::build(async |_| ReverseProxy::start(&listen, &upstream, &record).await)
        .run_until_signal()
        .await;
    println!("{report}");
    report // exit code 0 if it is clean
}

impl ReverseProxy {
    async fn start(listen: &str, upstream: &str, record_to: &str) -> Result<Self, BoxError> {
        let (recorder, lines) = mpsc::channel(1024);
        let file = File::create(record_to).await?;
        let pooled = TaskGroup::new();
        let client = legacy::Client::builder(InGroup(pooled.spawner())).build_http();
        let forward = Arc::new(Forward {
            client: client.clone(),
            upstream: upstream.parse()?,
            recorder,
        });
        let answer = service_fn(move |request| {
            let forward = forward.clone();
            async move { forward.answer(request).await }
        });
        let http = HttpServer::bind(listen).await?.serve_hyper(answer);
        println!("listening on {}", http.addresses()[0]);
        Ok(Self {
            http,
            recorder: tokio::spawn(record(file, lines)),
            pool: Some(client),
            pooled,
            state: ShutdownState::new(),
        })
    }
}

struct Forward {
    client: Client,
    upstream: Authority,
    recorder: mpsc::Sender<String>,
}

impl Forward {
    /// Forwards a request to the upstream. The exchange is recorded when the body of the response ends.
    async fn answer(
        &self,
        mut request: Request<RequestBody>,
    ) -> Result<Response<impl Body<Data = Bytes, Error = BoxError> + use<>>, BoxError> {
        let mut exchange = Exchange {
            line: format!("{} {}", request.method(), request.uri()),
            bytes: 0,
            recorder: self.recorder.clone(),
        };
        // HTTP/2 has the host in the request's target, and HTTP/1 has it in the field `Host`.
        if let Some(host) = request.uri().authority() {
            let host = HeaderValue::try_from(host.as_str())?;
            request.headers_mut().insert(header::HOST, host);
        }
        let path = request.uri().path_and_query().cloned();
        *request.uri_mut() = Uri::builder()
            .scheme(Scheme::HTTP)
            .authority(self.upstream.clone())
            .path_and_query(path.unwrap_or(PathAndQuery::from_static("/")))
            .build()?;
        *request.version_mut() = Version::HTTP_11;
        pass_on(request.headers_mut());
        let mut response = match timeout(RESPONSE_LIMIT, self.client.request(request)).await {
            Ok(Ok(response)) => response.map(Either::Left),
            failed => {
                let late = failed.is_err();
                let status = if late { 504 } else { 502 };
                let text = Either::Right(Full::from("The upstream did not answer.\n"));
                Response::builder().status(status).body(text)?
            }
        };
        pass_on(response.headers_mut());
        exchange.line += &format!(" {}", response.status().as_u16());
        Ok(response.map(|body| {
            body.map_frame(move |frame| {
                let exchange = &mut exchange; // moves all of `exchange` in, so that the drop of the body ends it
                exchange.bytes += frame.data_ref().map_or(0, Bytes::len);
                frame
            })
        }))
    }
}

/// Removes the header fields that concern a single connection, and adds the field `Via` (RFC 9110 §7.6).
fn pass_on(headers: &mut HeaderMap) {
    let lists = headers.get_all(header::CONNECTION).iter();
    let lists = lists.filter_map(|value| value.to_str().ok());
    let named = lists.flat_map(|list| list.split(','));
    let named: Vec<HeaderName> = named.filter_map(|name| name.trim().parse().ok()).collect();
    let always = [
        "connection",
        "keep-alive",
        "proxy-connection",
        "te",
        "transfer-encoding",
        "upgrade",
    ];
    for name in named.iter().chain(&always.map(HeaderName::from_static)) {
        headers.remove(name);
    }
    headers.append(header::VIA, HeaderValue::from_static("1.1 reverse_proxy"));
}

/// An executor that runs the upstream connections in a task group, so that the shutdown awaits them.
#[derive(Clone)]
struct InGroup(Spawner);

impl<F: Future<Output: Send> + Send + 'static> Executor<F> for InGroup {
    fn execute(&self, task: F) {
        // The group refuses tasks once it is shut down. At that time no request needs a connection any more.
        let _ = self.0.spawn("upstream", async { drop(task.await) });
    }
}

/// Writes a line to the record for each exchange, until the last sender of lines is dropped.
async fn record(file: File, mut lines: mpsc::Receiver<String>) -> io::Result<()> {
    let mut file = BufWriter::new(file);
    while let Some(line) = lines.recv().await {
        file.write_all(line.as_bytes()).await?;
    }
    file.flush().await?;
    file.get_ref().sync_all().await
}

struct Exchange {
    line: String,
    bytes: usize,
    recorder: mpsc::Sender<String>,
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let line = format!("{} {}\n", self.line, self.bytes);
        // No client waits for the disk. If 1024 lines already wait to be written, this line is lost.
        let _ = self.recorder.try_send(line);
    }
}
