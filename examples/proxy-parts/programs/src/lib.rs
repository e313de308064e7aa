//! Programs that answer requests: processes that read and write JSON-RPC, one message a line, like
//! MCP servers over stdio. A pool keeps a number of such processes, each of which answers many
//! calls.
//!
//! [`StdioPool`] is a part. Its shutdown closes the input of the processes. It sends SIGTERM and
//! then SIGKILL to processes that still run, and reaps all of them.
//!
//! ```
//! use std::time::Duration;
//!
//! use lifecycle_proxy_programs::message::Call;
//! use lifecycle_proxy_programs::settings::Settings;
//! use lifecycle_proxy_programs::{StdioPool, Times};
//! use lifecycle_proxy_sessions::SessionCount;
//! use lifecycle_runtime::{GracefulShutdown, ShutdownState};
//!
//! #[derive(GracefulShutdown)]
//! struct Server {
//!     #[shutdown]
//!     pool: StdioPool,
//!     #[shutdown(state)]
//!     state: ShutdownState,
//! }
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // A program that answers every line with `null`.
//! let script = r#"while read -r line; do
//!     id=${line#*\"id\":}; id=${id%%,*}
//!     printf '{"jsonrpc":"2.0","id":%s,"result":null}\n' "$id"
//! done"#;
//! let settings = Settings::new(vec!["sh".into(), "-c".into(), script.into()]);
//! let times = Times { answer: Duration::from_secs(60), heartbeat: Duration::from_secs(15) };
//! let (pool, client) = StdioPool::new(&settings, times, &SessionCount::default());
//! let mut server = Server { pool, state: ShutdownState::new() };
//! let call = Call::read(br#"{"jsonrpc":"2.0","id":"mine","method":"ping"}"#)?;
//! let answer = client.call(&call).await?.expect("it is no notification");
//! assert!(answer.contains(r#""id":"mine""#));
//! assert!(server.shutdown().await.is_clean());
//! assert_eq!(client.counts().running, 0);
//! # Ok(())
//! # }
//! ```

#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod client;
pub mod message;
pub mod outbox;
pub mod process;
pub mod resources;
pub mod session;
pub mod settings;
pub mod supervisor;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use deadpool::managed::{Manager, Metrics, Pool, QueueMode, RecycleError, RecycleResult, WeakPool};
use lifecycle_proxy_common::Throttle;
use lifecycle_proxy_sessions::{SessionCount, Sessions};
use lifecycle_runtime::{BoxError, Component, Context, GracefulShutdown};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, MissedTickBehavior, interval, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use outbox::Outbox;
use process::Process;
use resources::Resources;
use session::Session;
use settings::Settings;
use supervisor::{Groups, Started, StopSignals, Supervisor};

pub use client::{Counts, Failure, StdioClient};

/// The time limits and intervals of a pool that do not depend on its program.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// The time limit of a call, including the wait for a free process.
    pub answer: Duration,
    /// The longest silence in a stream of notifications, before the pool sends a comment to the
    /// client.
    pub heartbeat: Duration,
}

/// The owner of a pool of processes. Its shutdown ends all of them.
#[derive(Debug, GracefulShutdown)]
#[shutdown(part, strict, timeout = "5s")]
pub struct StdioPool {
    /// The task that drops processes that have ended or are unused.
    #[shutdown(priority = 0, timeout = "100ms")]
    maintenance: AbortOnDropHandle<()>,
    /// The sessions, each of which has a process of its own. The shutdown ends the sessions first.
    #[shutdown(priority = 0, timeout = "500ms")]
    sessions: Option<Sessions<Session>>,
    /// The processes. Their cleanup ends all of them.
    #[shutdown(priority = 10)]
    processes: Processes,
}

impl StdioPool {
    /// Creates a pool that starts processes on demand, and a client of the pool.
    ///
    /// The sessions of the pool are also counted in `sessions`.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    #[must_use]
    pub fn new(settings: &Settings, times: Times, sessions: &SessionCount) -> (Self, StdioClient) {
        let (ended, endings) = mpsc::unbounded_channel();
        let spawner = Spawner {
            settings: settings.clone(),
            permits: Arc::new(Semaphore::new(settings.processes.get())),
            session_permits: Arc::new(Semaphore::new(
                settings
                    .sessions
                    .as_ref()
                    .map_or(0, |sessions| sessions.most.get()),
            )),
            groups: Groups::default(),
            signals: StopSignals::default(),
            supervisors: TaskTracker::new(),
            ended,
            started: AtomicU64::new(0),
            complaints: Throttle::default(),
        };
        let pool = Pool::builder(spawner)
            .max_size(settings.processes.get())
            .queue_mode(QueueMode::Lifo)
            .build()
            .expect("no timeout is set, which would need a runtime");
        let idle = settings.idle.duration();
        let maintenance =
            AbortOnDropHandle::new(tokio::spawn(maintain(pool.weak(), endings, idle)));
        let sessions = settings.sessions.as_ref().map(|each| {
            // The semaphore `session_permits` limits the number of sessions, so the store needs no
            // limit.
            Sessions::new(each.idle.duration(), u64::MAX, sessions)
        });
        let (sessions, store) = sessions.unzip();
        let owner = Self {
            maintenance,
            sessions,
            processes: Processes { pool: pool.clone() },
        };
        let client = StdioClient {
            pool,
            sessions: store,
            limit: times.answer,
            heartbeat: times.heartbeat,
        };
        (owner, client)
    }
}

/// Drops pooled processes. A process that has ended is dropped at once, and an unused process
/// within two `idle` times.
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
        // `retain` returns the removed processes, which are dropped here, after the pool's lock was
        // released.
        pool.retain(|process, metrics| !process.has_ended() && metrics.last_used() < idle);
    }
}

/// The manager of a pool, which starts its processes.
struct Spawner {
    settings: Settings,
    /// Permits for the processes in the pool. Each process holds a permit until it is reaped.
    permits: Arc<Semaphore>,
    /// Permits for the processes of sessions. Each process holds a permit until it is reaped.
    session_permits: Arc<Semaphore>,
    groups: Groups,
    signals: StopSignals,
    supervisors: TaskTracker,
    ended: mpsc::UnboundedSender<()>,
    started: AtomicU64,
    complaints: Throttle,
}

impl Spawner {
    /// Starts the process of a session, with its resources.
    fn start_session(
        &self,
        outbox: &Arc<Outbox>,
        permit: OwnedSemaphorePermit,
    ) -> io::Result<Process> {
        let settings = self.settings.sessions.clone().unwrap_or_default();
        let resources = Resources::new(&settings, outbox, self.settings.max_message.get())?;
        self.start(permit, Some(resources), Some(outbox.clone()))
    }

    fn start(
        &self,
        permit: OwnedSemaphorePermit,
        resources: Option<Resources>,
        outbox: Option<Arc<Outbox>>,
    ) -> io::Result<Process> {
        let started = Supervisor::start(&self.settings.command, &self.groups, permit, resources)?;
        let Started {
            stdin,
            stdout,
            supervisor,
        } = started;
        let (released, ended_token) = (CancellationToken::new(), CancellationToken::new());
        let longest = self.settings.max_message.get();
        let guard = released.clone().drop_guard();
        let process = Process::new(stdin, stdout, longest, ended_token.clone(), guard, outbox);
        debug!(pid = %supervisor.pid(), command = ?self.settings.command, "a subprocess was started");
        self.started.fetch_add(1, Ordering::Relaxed);
        let supervised = supervisor.supervise(
            released,
            ended_token,
            self.signals.clone(),
            self.settings.stop.duration(),
        );
        let ended = self.ended.clone();
        self.supervisors.spawn(async move {
            supervised.await;
            // Ignores the error: the receiver is gone once the pool shuts down.
            let _ = ended.send(());
        });
        Ok(process)
    }
}

impl Manager for Spawner {
    type Type = Process;
    type Error = io::Error;

    async fn create(&self) -> io::Result<Process> {
        let permit = self.permits.clone().acquire_owned().await;
        let permit = permit.map_err(io::Error::other)?;
        self.start(permit, None, None).inspect_err(|error| {
            if self.complaints.allows() {
                warn!(command = ?self.settings.command, %error, "starting a subprocess failed");
            }
        })
    }

    async fn recycle(&self, process: &mut Process, _: &Metrics) -> RecycleResult<io::Error> {
        if process.is_usable() {
            Ok(())
        } else {
            Err(RecycleError::message("the process cannot be used any more"))
        }
    }
}

/// The processes of a pool.
///
/// The cleanup closes the pool, which closes the input of idle processes. Processes that still run
/// after a third of the time limit get SIGTERM. Processes that still run at the soft deadline get
/// SIGKILL. The cleanup waits until all processes are reaped.
struct Processes {
    pool: Pool<Spawner>,
}

impl Processes {
    fn kill(&self) {
        let spawner = self.pool.manager();
        self.pool.close();
        spawner.permits.close();
        spawner.session_permits.close();
        spawner.signals.kill.cancel();
        // Kills the processes here, since the supervisors may never be polled again.
        spawner.groups.kill();
    }
}

impl Component for Processes {
    async fn cleanup(&mut self, cx: &Context) -> Result<(), BoxError> {
        let spawner = self.pool.manager();
        self.pool.close();
        spawner.permits.close();
        spawner.session_permits.close();
        spawner.supervisors.close();
        let groups = spawner.groups.clone();
        let forced = groups.clone();
        cx.on_force(move || forced.kill());
        let waiting = groups.clone();
        cx.waiting_for(move || waiting.summary());
        if timeout(cx.remaining() / 3, spawner.supervisors.wait())
            .await
            .is_ok()
        {
            return Ok(());
        }
        spawner.signals.terminate.cancel();
        let deadline = Instant::from_std(cx.deadline());
        if timeout_at(deadline, spawner.supervisors.wait())
            .await
            .is_ok()
        {
            return Ok(());
        }
        let left = groups.summary();
        spawner.signals.kill.cancel();
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
    /// Kills the processes, since nothing waits for their end any more.
    fn drop(&mut self) {
        self.kill();
    }
}

impl fmt::Debug for Processes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.pool.manager().groups.summary().fmt(f)
    }
}

#[cfg(test)]
mod tests;
