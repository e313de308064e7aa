//! Pools of connections to the upstreams.
//!
//! A connection in HTTP/1.1 is driven by the task of the request that it serves. Between two
//! requests it waits in its upstream's list of idle connections. Connections in HTTP/2 serve many
//! requests at a time, and hyper-util's client manages them.

mod address;
pub mod body;
mod connection;
pub mod failure;
pub mod health;
pub mod idle;
pub mod kept;
pub mod member;
mod outgoing;
mod waker;

use std::future::poll_fn;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::http::uri::Scheme;
use hyper::rt::Executor;
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioTimer;
use lifecycle_runtime::{GracefulShutdown, Spawner, TaskGroup};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout_at};
use tower_service::Service as _;

use crate::buffers;
use crate::config::{Timeouts, Upstream};
use crate::inbound::body::Upload;
use address::address;
use body::ResponseBody;
use connection::{Connection, SendError};
use failure::RequestError;
use idle::IdleConnections;
use kept::{Connector, Life};
use outgoing::{Outgoing, Progress};

/// The time that a connection attempt has before the next address of the upstream is tried as well.
const HAPPY_EYEBALLS: Duration = Duration::from_millis(300);

/// The interval of pings on a connection in HTTP/2. Pings show whether the connection still works,
/// which matters since it serves many requests.
const PING: Duration = Duration::from_secs(20);

/// The largest number of idle connections in HTTP/2 that are kept for an upstream.
const MOST_IDLE: usize = 256;

/// The shortest interval between two checks of the idle connections. A check happens earlier when
/// something happens to an idle connection.
const PAUSE: Duration = Duration::from_secs(1);

/// A client that sends requests over the pool's connections. Clones are cheap.
#[derive(Clone, Debug)]
pub struct Client(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    connector: HttpConnector,
    /// hyper-util's client. `None` once the pool is closed, since the client keeps idle connections
    /// open until it is dropped.
    http2: Mutex<Option<legacy::Client<Connector, Upload>>>,
    /// The lists of idle connections, one for each upstream.
    lists: Mutex<Vec<Arc<IdleConnections>>>,
    closed: AtomicBool,
    /// The notification that something has happened to an idle connection.
    keeper: Arc<Notify>,
    idle_limit: Duration,
    tasks: Spawner,
}

impl Client {
    /// Sends a request to `upstream` over an idle connection from `idle`, or over a new connection.
    /// Waits for the response until the time that `due` returns. Calls `due` again at that time,
    /// since the time may have moved. `now` is the time of the call. Takes the request out of
    /// `request` once there is a connection.
    ///
    /// The upstream's settings decide between HTTP/1.1 and HTTP/2.
    /// # Errors
    ///
    /// [`RequestError`], when there is no response.
    ///
    /// # Cancel safety
    ///
    /// Safe: if the future is dropped during the wait for the response, the connection is closed.
    pub async fn request(
        &self,
        (upstream, idle): (&Upstream, &Arc<IdleConnections>),
        request: &mut Request<Upload>,
        now: Instant,
        due: impl Fn() -> Instant,
    ) -> Result<Response<ResponseBody>, RequestError> {
        address(request, upstream).map_err(RequestError::Target)?;
        if upstream.is_http2() {
            // Boxed, so that a request in HTTP/1.1 does not need a future as large as this.
            // `connect` is boxed for the same reason.
            Box::pin(self.0.send_http2(request, &due)).await
        } else {
            self.0
                .send_http1((upstream, idle), request, now, &due)
                .await
        }
    }
}

impl Inner {
    async fn send_http1(
        &self,
        (upstream, idle): (&Upstream, &Arc<IdleConnections>),
        request: &mut Request<Upload>,
        now: Instant,
        due: &impl Fn() -> Instant,
    ) -> Result<Response<ResponseBody>, RequestError> {
        loop {
            let mut connection = match idle.take(self.idle_limit, now) {
                Some(connection) => connection,
                None => Box::pin(in_time(self.connect(upstream, idle), due)).await?,
            };
            // A block, so that this future has no room for the request after it was moved.
            let (progress, sent) = {
                let outgoing = take(request).map(Outgoing::new);
                (outgoing.body().progress(), connection.send(outgoing, due))
            };
            let mut error = match sent.await {
                Ok(response) => return Ok(self.answer(response, connection, &progress)),
                Err(SendError::Late) => return Err(RequestError::Late),
                Err(SendError::Failed(error)) => error,
            };
            match error.take_message() {
                // The idle connection had ended before any byte of the request was written, so the
                // request is sent again.
                Some(unsent) if connection.life().has_served() => {
                    *request = unsent.map(Outgoing::into_upload);
                }
                _ => {
                    let died_idle = connection.life().died_idle();
                    let error = error.into_error();
                    return Err(RequestError::Http1 { error, died_idle });
                }
            }
        }
    }

    /// Gives the connection to the response's body, which drives it. If the request is not sent
    /// completely, or the protocol is switched, gives the connection a task of its own instead.
    fn answer(
        &self,
        response: Response<Incoming>,
        mut connection: Box<Connection>,
        progress: &Progress,
    ) -> Response<ResponseBody> {
        if progress.is_complete() && response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return response.map(|body| ResponseBody::over(body, connection));
        }
        // Ignores a refusal: the pool's task group refuses tasks only after all requests have
        // ended.
        let _ = self.tasks.spawn("upstream", async move {
            connection.settle().await;
            connection.give_back();
        });
        response.map(ResponseBody::new)
    }

    async fn connect(
        &self,
        upstream: &Upstream,
        idle: &Arc<IdleConnections>,
    ) -> Result<Box<Connection>, RequestError> {
        if idle.is_new() {
            self.list(idle.clone());
        }
        let mut connector = self.connector.clone();
        let uri = Uri::builder()
            .scheme(Scheme::HTTP)
            .authority(upstream.authority().clone())
            .path_and_query("/")
            .build();
        let connected = async {
            poll_fn(|cx| connector.poll_ready(cx)).await?;
            connector.call(uri.unwrap_or_default()).await
        };
        let stream = connected.await.map_err(RequestError::Connect)?;
        let began = Connection::begin(stream.into_inner(), idle.clone(), self.keeper.clone());
        began.await.map_err(|error| RequestError::Http1 {
            error,
            died_idle: false,
        })
    }

    async fn send_http2(
        &self,
        request: &mut Request<Upload>,
        due: &impl Fn() -> Instant,
    ) -> Result<Response<ResponseBody>, RequestError> {
        let client = lock(&self.http2).clone();
        let Some(client) = client else {
            return Err(RequestError::Closed);
        };
        let response = client.request(take(request));
        let response = async { response.await.map_err(RequestError::Http2) };
        let response = in_time(response, due).await?;
        Life::served(response.extensions());
        Ok(response.map(ResponseBody::new))
    }

    /// Adds an upstream's list of idle connections to the lists that [`keep`](Self::keep) checks.
    fn list(&self, idle: Arc<IdleConnections>) {
        let mut lists = lock(&self.lists);
        if self.closed.load(Ordering::Relaxed) {
            idle.close();
        } else {
            lists.push(idle);
        }
    }

    /// Closes idle connections that have expired, and drops connections that have ended, until the
    /// future is dropped.
    async fn keep(&self) {
        let pause = (self.idle_limit / 4).max(PAUSE);
        loop {
            tokio::select! {
                () = self.keeper.notified() => {}
                () = sleep(pause) => {}
            }
            for idle in &*lock(&self.lists) {
                idle.sweep(self.idle_limit);
            }
        }
    }

    /// Closes all idle connections. From then on, connections are not kept after their request.
    fn close(&self) {
        lock(&self.http2).take();
        let mut lists = lock(&self.lists);
        self.closed.store(true, Ordering::Relaxed);
        for idle in lists.drain(..) {
            idle.close();
        }
    }
}

/// Takes a request out, and leaves an empty request in its place.
pub fn take(request: &mut Request<Upload>) -> Request<Upload> {
    std::mem::replace(request, Request::new(Upload::empty()))
}

/// Waits for the result of `asked`, at most until the time that `due` returns.
async fn in_time<T>(
    asked: impl Future<Output = Result<T, RequestError>>,
    due: &impl Fn() -> Instant,
) -> Result<T, RequestError> {
    let mut asked = pin!(asked);
    loop {
        let end = due();
        match timeout_at(end, asked.as_mut()).await {
            Ok(answer) => return answer,
            Err(_) if due() <= end => return Err(RequestError::Late),
            // The due time was moved to a later time during the wait, so the wait goes on.
            Err(_) => {}
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The owner of the upstream connections. Its shutdown closes idle connections, then waits until
/// the other connections have ended.
#[derive(Debug, GracefulShutdown)]
#[shutdown(part, strict, timeout = "1s")]
pub struct UpstreamPool {
    #[shutdown(priority = 0, timeout = "50ms", with = close)]
    client: Client,
    #[shutdown(priority = 10, timeout = "950ms")]
    connections: TaskGroup,
}

impl UpstreamPool {
    /// Creates an empty pool, and a client whose connections are kept in the pool.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    #[must_use]
    pub fn new(timeouts: &Timeouts) -> (Self, Client) {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(timeouts.connect.duration()));
        connector.set_happy_eyeballs_timeout(Some(HAPPY_EYEBALLS));
        let connections = TaskGroup::new();
        let idle_limit = timeouts.pool_idle.duration();
        let mut builder = legacy::Client::builder(Upstreams(connections.spawner()));
        builder
            .http2_only(true)
            .http2_keep_alive_interval(PING)
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(idle_limit)
            .pool_max_idle_per_host(MOST_IDLE);
        buffers::bound_http2(&mut builder);
        let client = Client(Arc::new(Inner {
            http2: Mutex::new(Some(builder.build(Connector::new(connector.clone())))),
            connector,
            lists: Mutex::default(),
            closed: AtomicBool::new(false),
            keeper: Arc::default(),
            idle_limit,
            tasks: connections.spawner(),
        }));
        let keeper = client.clone();
        // Ignores a refusal, which a new task group never gives.
        let _ = connections.spawn_until_stop("idle upstream connections", async move {
            keeper.0.keep().await;
        });
        let pool = Self {
            client: client.clone(),
            connections,
        };
        (pool, client)
    }
}

async fn close(client: &mut Client) {
    client.0.close();
}

/// An executor that runs the tasks of upstream connections in a task group.
#[derive(Clone, Debug)]
struct Upstreams(Spawner);

impl<F: Future<Output: Send> + Send + 'static> Executor<F> for Upstreams {
    fn execute(&self, task: F) {
        // Ignores a refusal: the pool's task group refuses tasks only after all requests have
        // ended.
        let _ = self.0.spawn("upstream", async { drop(task.await) });
    }
}
