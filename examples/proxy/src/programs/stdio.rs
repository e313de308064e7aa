//! Upstreams that are programs: subprocesses that read and write JSON-RPC, one
//! message a line, as MCP servers over stdio do. A pool of them answers HTTP
//! requests, so that one process serves many.

mod client;
pub mod message;
pub mod outbox;
pub mod process;
pub mod resources;
pub mod session;
pub mod supervisor;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use deadpool::managed::{Manager, Metrics, Pool, QueueMode, RecycleError, RecycleResult, WeakPool};
use lifecycle_runtime::{BoxError, Component, Context, GracefulShutdown};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use crate::config::{self, Timeouts};
use crate::programs::sessions::{SessionCount, Sessions};
use crate::streams::feed::{self};
use crate::telemetry::logging::Throttle;
use outbox::Outbox;
use process::Process;
use resources::Resources;
use session::Session;
use supervisor::{Groups, Orders, Started, Supervisor};

pub use client::{Counts, Failure, StdioClient};

/// The owner of a pool of subprocesses.
#[derive(Debug, GracefulShutdown)]
#[shutdown(part, strict, timeout = "5s")]
pub struct StdioPool {
    /// Drops what nobody uses.
    #[shutdown(priority = 0, timeout = "100ms")]
    maintenance: AbortOnDropHandle<()>,
    /// Gives up the processes that clients have for themselves.
    #[shutdown(priority = 0, timeout = "500ms")]
    sessions: Option<Sessions<Session>>,
    /// Sees the processes out.
    #[shutdown(priority = 10)]
    processes: Processes,
}

impl StdioPool {
    /// A pool that starts processes as they are needed, and the client that
    /// uses it. A call may take as long as a response may, with the wait for a
    /// process. Its sessions are counted in `sessions` as well.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    #[must_use]
    pub fn new(
        config: &config::Stdio,
        timeouts: &Timeouts,
        sessions: &SessionCount,
    ) -> (Self, StdioClient) {
        let (ended, endings) = mpsc::unbounded_channel();
        let spawner = Spawner {
            config: config.clone(),
            places: Arc::new(Semaphore::new(config.processes.get())),
            session_places: Arc::new(Semaphore::new(
                config
                    .sessions
                    .as_ref()
                    .map_or(0, |sessions| sessions.most.get()),
            )),
            groups: Groups::default(),
            orders: Orders::default(),
            supervisors: TaskTracker::new(),
            ended,
            started: AtomicU64::new(0),
            complaints: Throttle::default(),
        };
        let pool = Pool::builder(spawner)
            .max_size(config.processes.get())
            .queue_mode(QueueMode::Lifo)
            .build()
            .expect("no timeout is set, which would need a runtime");
        let idle = config.idle.duration();
        let maintenance =
            AbortOnDropHandle::new(tokio::spawn(maintain(pool.weak(), endings, idle)));
        let sessions = config.sessions.as_ref().map(|config| {
            // Their places are the limit.
            Sessions::new(config.idle.duration(), u64::MAX, sessions)
        });
        let (sessions, shelf) = sessions.unzip();
        let owner = Self {
            maintenance,
            sessions,
            processes: Processes { pool: pool.clone() },
        };
        let client = StdioClient {
            pool,
            sessions: shelf,
            limit: timeouts.response.duration(),
            beat: feed::beat(timeouts),
        };
        (owner, client)
    }
}

/// Keeps the pool to what is of use: processes that have ended go at once, those
/// that were not needed for `idle` within as long again.
async fn maintain(
    pool: WeakPool<Spawner>,
    mut endings: mpsc::UnboundedReceiver<()>,
    idle: Duration,
) {
    let mut ticks = interval(idle);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            ended = endings.recv() => if ended.is_none() { return },
            _ = ticks.tick() => {}
        }
        let Some(pool) = pool.upgrade() else { return };
        // The processes are dropped after the pool's lock was given back.
        pool.retain(|process, metrics| !process.has_ended() && metrics.last_used() < idle);
    }
}

/// Starts processes for the pool.
struct Spawner {
    config: config::Stdio,
    /// One for each process there may be, taken until it is reaped.
    places: Arc<Semaphore>,
    /// The same for sessions.
    session_places: Arc<Semaphore>,
    groups: Groups,
    orders: Orders,
    supervisors: TaskTracker,
    ended: mpsc::UnboundedSender<()>,
    started: AtomicU64,
    complaints: Throttle,
}

impl Spawner {
    /// Starts the process of a session, with all that it has.
    fn start_for(&self, outbox: &Arc<Outbox>, place: OwnedSemaphorePermit) -> io::Result<Process> {
        let config = self.config.sessions.clone().unwrap_or_default();
        let resources = Resources::new(&config, outbox, self.config.max_message.get())?;
        self.start(place, Some(resources), Some(outbox.clone()))
    }

    fn start(
        &self,
        place: OwnedSemaphorePermit,
        resources: Option<Resources>,
        outbox: Option<Arc<Outbox>>,
    ) -> io::Result<Process> {
        let started = Supervisor::start(&self.config.command, &self.groups, place, resources)?;
        let Started {
            stdin,
            stdout,
            supervisor,
        } = started;
        let (released, gone) = (CancellationToken::new(), CancellationToken::new());
        let longest = self.config.max_message.get();
        let guard = released.clone().drop_guard();
        let process = Process::new(stdin, stdout, longest, gone.clone(), guard, outbox);
        debug!(pid = %supervisor.pid(), command = ?self.config.command, "a subprocess was started");
        self.started.fetch_add(1, Ordering::Relaxed);
        let supervised = supervisor.supervise(
            released,
            gone,
            self.orders.clone(),
            self.config.stop.duration(),
        );
        let ended = self.ended.clone();
        self.supervisors.spawn(async move {
            supervised.await;
            // Nobody listens any more once the pool is being shut down.
            let _ = ended.send(());
        });
        Ok(process)
    }
}

impl Manager for Spawner {
    type Type = Process;
    type Error = io::Error;

    async fn create(&self) -> io::Result<Process> {
        let place = self.places.clone().acquire_owned().await;
        let place = place.map_err(io::Error::other)?;
        self.start(place, None, None).inspect_err(|error| {
            if self.complaints.allows() {
                warn!(command = ?self.config.command, %error, "a subprocess cannot be started");
            }
        })
    }

    async fn recycle(&self, process: &mut Process, _: &Metrics) -> RecycleResult<io::Error> {
        if process.is_usable() {
            Ok(())
        } else {
            Err(RecycleError::message("the process is of no use any more"))
        }
    }
}

/// All processes of a pool, and their end.
///
/// Its cleanup closes the pool, and with it the input of the processes that
/// wait. Who has not ended after a third of the time is sent SIGTERM, who has not
/// at the soft deadline, SIGKILL; each is reaped.
struct Processes {
    pool: Pool<Spawner>,
}

impl Processes {
    fn kill(&self) {
        let spawner = self.pool.manager();
        self.pool.close();
        spawner.places.close();
        spawner.session_places.close();
        spawner.orders.kill.cancel();
        // The supervisors may not be polled again.
        spawner.groups.kill();
    }
}

impl Component for Processes {
    async fn cleanup(&mut self, cx: &Context) -> Result<(), BoxError> {
        let spawner = self.pool.manager();
        self.pool.close();
        spawner.places.close();
        spawner.session_places.close();
        spawner.supervisors.close();
        let groups = spawner.groups.clone();
        let forced = groups.clone();
        cx.on_force(move || forced.kill());
        let waiting = groups.clone();
        cx.waiting_for(move || waiting.names());
        if timeout(cx.remaining() / 3, spawner.supervisors.wait())
            .await
            .is_ok()
        {
            return Ok(());
        }
        spawner.orders.terminate.cancel();
        let deadline = Instant::from_std(cx.deadline());
        if timeout_at(deadline, spawner.supervisors.wait())
            .await
            .is_ok()
        {
            return Ok(());
        }
        let left = groups.names();
        spawner.orders.kill.cancel();
        spawner.supervisors.wait().await;
        Err(format!("did not end after SIGTERM and had to be killed: {left}").into())
    }

    fn abort(&mut self) {
        self.kill();
    }

    fn release(&mut self) {
        self.kill();
    }
}

impl Drop for Processes {
    /// Who could have awaited them is gone.
    fn drop(&mut self) {
        self.kill();
    }
}

impl fmt::Debug for Processes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.pool.manager().groups.names().fmt(f)
    }
}

#[cfg(test)]
mod tests;
