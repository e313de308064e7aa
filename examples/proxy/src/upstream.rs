//! Connections to the upstreams: pools of them, and their end.
//!
//! A connection in HTTP/1.1 is driven by the task of the request it serves, and is idle
//! in a list of its upstream's in between. Connections in HTTP/2, which serve many requests
//! at a time, are those of hyper-util's client.

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

/// The time a connection attempt gets before the next address is tried as well.
const HAPPY_EYEBALLS: Duration = Duration::from_millis(300);

/// A connection in HTTP/2 serves many requests, so whether it still works is
/// asked so often.
const PING: Duration = Duration::from_secs(20);

/// Idle connections in HTTP/2 that are kept for an upstream.
const MOST_IDLE: usize = 256;

/// The shortest time after which idle connections are looked through again, unless something
/// happens to one.
const PAUSE: Duration = Duration::from_secs(1);

/// Sends requests over the pool's connections. A cheap clone.
#[derive(Clone, Debug)]
pub struct Client(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    connector: HttpConnector,
    /// None once the pool is closed: it keeps its connections until it is dropped.
    http2: Mutex<Option<legacy::Client<Connector, Upload>>>,
    /// Where connections wait that are idle.
    lists: Mutex<Vec<Arc<IdleConnections>>>,
    closed: AtomicBool,
    /// Notified when something happens to an idle connection.
    keeper: Arc<Notify>,
    idle_limit: Duration,
    tasks: Spawner,
}

impl Client {
    /// Sends a request to `upstream`, in the version of HTTP that it speaks, over a
    /// connection that waits in `idle`, or over a new one. The response is waited for until
    /// it is `due`, which is asked again at that time. The request is taken once there is a
    /// connection.
    ///
    /// # Errors
    ///
    /// [`RequestError`], where there is no response.
    ///
    /// # Cancel safety
    ///
    /// Safe: the connection is closed if it was waited for the response.
    pub async fn request(
        &self,
        upstream: &Upstream,
        idle: &Arc<IdleConnections>,
        request: &mut Request<Upload>,
        due: impl Fn() -> Instant,
    ) -> Result<Response<ResponseBody>, RequestError> {
        address(request, upstream).map_err(RequestError::Target)?;
        if upstream.is_http2() {
            // Boxed, as that it connects: neither makes the future of all requests larger.
            Box::pin(self.0.send_http2(request, &due)).await
        } else {
            self.0.send_http1((upstream, idle), request, &due).await
        }
    }
}

impl Inner {
    async fn send_http1(
        &self,
        (upstream, idle): (&Upstream, &Arc<IdleConnections>),
        request: &mut Request<Upload>,
        due: &impl Fn() -> Instant,
    ) -> Result<Response<ResponseBody>, RequestError> {
        loop {
            let mut connection = match idle.take(self.idle_limit) {
                Some(connection) => connection,
                None => Box::pin(in_time(self.connect(upstream, idle), due)).await?,
            };
            let outgoing = take(request).map(Outgoing::new);
            let progress = outgoing.body().progress();
            let mut error = match connection.send(outgoing, due).await {
                Ok(response) => return Ok(self.answer(response, connection, &progress)),
                Err(SendError::Late) => return Err(RequestError::Late),
                Err(SendError::Failed(error)) => error,
            };
            match error.take_message() {
                // The connection had ended before anything of the request was written.
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

    /// Leaves the connection with the response's body, or gives it a task where it has
    /// other things to do: to send the rest of the request, or to become something else.
    fn answer(
        &self,
        response: Response<Incoming>,
        mut connection: Box<Connection>,
        progress: &Progress,
    ) -> Response<ResponseBody> {
        if progress.is_complete() && response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return response.map(|body| ResponseBody::over(body, connection));
        }
        // Refused when the pool is closed, after all who could ask.
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

    /// Looks after the idle connections of an upstream.
    fn list(&self, idle: Arc<IdleConnections>) {
        let mut lists = lock(&self.lists);
        if self.closed.load(Ordering::Relaxed) {
            idle.close();
        } else {
            lists.push(idle);
        }
    }

    /// Closes idle connections that have expired, and drops those that have ended, as
    /// long as it is run.
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

    /// Closes the idle connections, and keeps no more.
    fn close(&self) {
        lock(&self.http2).take();
        let mut lists = lock(&self.lists);
        self.closed.store(true, Ordering::Relaxed);
        for idle in lists.drain(..) {
            idle.close();
        }
    }
}

/// Takes a request, and leaves an empty one.
pub fn take(request: &mut Request<Upload>) -> Request<Upload> {
    std::mem::replace(request, Request::new(Upload::empty()))
}

/// Waits for `asked` until it is `due`.
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
            // It was put off meanwhile.
            Err(_) => {}
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The owner of the upstream connections: those that are idle are closed, then it is
/// waited until the others are gone.
#[derive(Debug, GracefulShutdown)]
#[shutdown(part, strict, timeout = "1s")]
pub struct UpstreamPool {
    #[shutdown(priority = 0, timeout = "50ms", with = close)]
    client: Client,
    #[shutdown(priority = 10, timeout = "950ms")]
    connections: TaskGroup,
}

impl UpstreamPool {
    /// Creates an empty pool, and the client that fills it.
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
        // Not refused: the group is new.
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

/// Runs the tasks of upstream connections in a group.
#[derive(Clone, Debug)]
struct Upstreams(Spawner);

impl<F: Future<Output: Send> + Send + 'static> Executor<F> for Upstreams {
    fn execute(&self, task: F) {
        // Refused when the pool is closed, after all who could ask.
        let _ = self.0.spawn("upstream", async { drop(task.await) });
    }
}
