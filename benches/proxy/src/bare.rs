//! Runs the proxy in its own process: the whole proxy, only the code that forwards requests, under an accept loop without
//! tracking, or a proxy of hyper alone.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::thread::available_parallelism;

use futures_util::FutureExt as _;
use hyper::Request;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use lifecycle_http::{HttpConnection, RequestBody, RequestFraming};
use lifecycle_proxy::app::ProxyServer;
use lifecycle_proxy::config::{Config, PathPrefix, Upstream};
use lifecycle_proxy::forwarding::forward::{Accounting, Forward, Rules};
use lifecycle_proxy::inbound::body::Upload;
use lifecycle_proxy::inbound::link::Link;
use lifecycle_proxy::inbound::server::{Handler as _, Served, limits_of};
use lifecycle_proxy::inbound::sockets::Listening;
use lifecycle_proxy::metrics::{Metrics, Sources};
use lifecycle_proxy::routing::group::Group;
use lifecycle_proxy::routing::routes::{Route, Routes, Target};
use lifecycle_proxy::streams::websocket::{self, WebSocketOptions};
use lifecycle_proxy::upstream::UpstreamPool;
use lifecycle_proxy_overload::breaker;
use lifecycle_proxy_overload::load::{Bounds, Load, Resource};
use lifecycle_runtime::{ConnectionStats, Runner, ShutdownHandle, Workers};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio_util::io::InspectReader;

use crate::{Result, floor};

pub(crate) const ROLE: &str = "proxy";
pub(crate) const TRACKED: &str = "tracked";
pub(crate) const UNTRACKED: &str = "untracked";
pub(crate) const FLOOR: &str = "floor";

pub(crate) fn run(with: &str, listen: &str, upstream: &str) -> Result<ExitCode> {
    let config = Config {
        listen_addrs: vec![listen.parse()?],
        upstream: Some(format!("http://{upstream}").parse()?),
        ..Config::default()
    };
    if with == TRACKED {
        let report = Runner::build(async |_| ProxyServer::builder(config).workers().start().await)
            .block_on(async |_: &mut ProxyServer, stop| stop.cancelled().await);
        return Ok(ExitCode::from(report.exit_code()));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    if with == FLOOR {
        runtime.block_on(floor::serve(listen.parse()?, upstream.parse()?))?;
        return Ok(ExitCode::SUCCESS);
    }
    runtime.block_on(untracked(config))?;
    Ok(ExitCode::SUCCESS)
}

/// Starts as many threads as the proxy does, so that only the code of the contestants is compared.
pub(crate) fn workers() -> Result<Workers> {
    Ok(Workers::start(available_parallelism()?)?)
}

/// Registers an accepted connection with the runtime of a worker.
pub(crate) fn onto(worker: &Handle, stream: TcpStream) -> Result<TcpStream> {
    let stream = stream.into_std()?;
    let _on_worker = worker.enter();
    Ok(TcpStream::from_std(stream)?)
}

/// Serves for ever without tracking. Connections are not counted, limited or awaited; they have no timeouts and get no
/// close signal.
async fn untracked(config: Config) -> Result<()> {
    let upstream = config.upstream.clone().ok_or("no upstream")?;
    let (_pool, forward) = forward(&config, upstream);
    let buffer = limits_of(&config.timeouts).max_head;
    let listener = TcpListener::bind(config.listen_addrs[0]).await?;
    let workers = workers()?;
    for worker in workers.handles().iter().cycle() {
        let (stream, peer) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let link = Link {
            peer,
            local: stream.local_addr()?,
            // It never gives a close signal.
            connection: HttpConnection::detached(peer),
        };
        let stream = onto(worker, stream)?;
        let handler = forward.clone();
        worker.spawn(serve(stream, Served { handler, link }, buffer));
    }
    Ok(())
}

/// Serves one connection, with buffers as large as those of the proxy.
async fn serve(stream: TcpStream, served: Served<Forward>, buffer: usize) {
    let served = Arc::new(served);
    let service = service_fn(move |request: Request<_>| {
        let request = request.map(|body| Upload::new(RequestBody::from(body)));
        let answered = Forward::handle(served.clone(), request);
        answered.map(Ok::<_, Infallible>)
    });
    let mut http = auto::Builder::new(TokioExecutor::new());
    http.http1().header_read_timeout(None).max_buf_size(buffer);
    // Requests are searched for ambiguous lengths, as those of the proxy are.
    let mut framing = RequestFraming::new();
    let stream = InspectReader::new(stream, move |bytes| {
        framing.pass(bytes);
        assert_eq!(
            framing.first_ambiguous(),
            None,
            "wrk sends no such requests"
        );
    });
    let served = http.serve_connection_with_upgrades(TokioIo::new(stream), service);
    // A connection that fails is no error of the measurement.
    let _ = served.await;
}

/// Returns the proxy's own code that forwards requests, and its pool of connections to `upstream`. Requests are not
/// recorded.
fn forward(config: &Config, upstream: Upstream) -> (UpstreamPool, Forward) {
    let (pool, client) = UpstreamPool::new(&config.timeouts);
    let settings = breaker::Settings {
        failures: config.breaker.failures.get(),
        open: config.breaker.open.duration(),
    };
    let routes = Arc::new(Routes::new(vec![Route {
        host: None,
        path: PathPrefix::default(),
        target: Target::Http(Arc::new(Group::new(&[upstream], settings))),
    }]));
    let load = Arc::new(Load::new(
        [Bounds::NONE; Resource::ALL.len()],
        Box::new(Default::default),
    ));
    let sources = Sources {
        connections: Box::new(ConnectionStats::default),
        recorder: None,
        routes: routes.clone(),
        load: load.clone(),
        websockets: websocket::Open::default(),
        tls: lifecycle_proxy_passthrough::Counts::default(),
        handle: ShutdownHandle::new(),
    };
    let accounting = Accounting {
        metrics: Arc::new(Metrics::new(sources, None)),
        recorder: None,
    };
    let rules = Rules {
        response_limit: config.timeouts.response.duration(),
        trust_forwarded: config.trust_forwarded,
        websocket: WebSocketOptions {
            ping: config.websocket.ping.duration(),
            open: websocket::Open::default(),
        },
        listening: Listening::default(),
    };
    (pool, Forward::new(client, routes, load, rules, accounting))
}

/// Returns the command that runs a proxy. `with` is `TRACKED`, `UNTRACKED` or `FLOOR`.
pub(crate) fn command(
    with: &str,
    listen: SocketAddr,
    upstream: SocketAddr,
) -> Result<std::process::Command> {
    let mut command = crate::process::this_as(ROLE)?;
    command.args([with, &listen.to_string(), &upstream.to_string()]);
    Ok(command)
}
