//! The client of a pool of programs.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use deadpool::managed::{Object, Pool, PoolError};
use lifecycle_proxy_feeds::listener::Listener;
use lifecycle_proxy_sessions::Store;
use tokio::sync::TryAcquireError;
use tokio::time::timeout;

use super::Spawner;
use super::message::Call;
use super::outbox::Outbox;
use super::process::Broken;
use super::session::Session;

/// A client of a pool. Clones are cheap. Dropping a clone changes nothing in the pool.
#[derive(Clone)]
pub struct StdioClient {
    pub(super) pool: Pool<Spawner>,
    pub(super) sessions: Option<Store<Session>>,
    pub(super) limit: Duration,
    pub(super) heartbeat: Duration,
}

/// The reason why a call was not answered.
#[derive(Debug)]
pub enum Failure {
    /// No process could be started.
    Unstarted(io::Error),
    /// The process closed its output, or could not be written to or read.
    Broken(Broken),
    /// No answer came within the time limit. The wait for a free process counts.
    Late,
    /// The pool is closed.
    Closed,
    /// The number of sessions is at its limit.
    Full,
    /// There is no session of this name.
    NoSession,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unstarted(error) => write!(f, "it cannot be started: {error}"),
            Self::Broken(error) => write!(f, "{error}"),
            Self::Late => f.write_str("it did not answer in time"),
            Self::Closed => f.write_str("it is being shut down"),
            Self::Full => f.write_str("the number of sessions is at its limit"),
            Self::NoSession => f.write_str("there is no such session"),
        }
    }
}

impl std::error::Error for Failure {}

/// Counters of a pool of programs.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counts {
    /// The number of processes that have started and are not reaped.
    pub running: usize,
    /// The number of processes that wait for a request.
    pub idle: usize,
    /// The number of processes that were started so far.
    pub started: u64,
    /// The number of sessions that have not ended.
    pub sessions: u64,
}

impl StdioClient {
    /// Sends a call to a process and waits for its answer. Returns `None` for a notification, which
    /// has no answer.
    ///
    /// # Errors
    ///
    /// When no process could be started, the process broke, the time limit has passed, or the pool
    /// is closed.
    ///
    /// # Cancel safety
    ///
    /// A process whose call failed or was dropped is not used again.
    pub async fn call(&self, call: &Call) -> Result<Option<String>, Failure> {
        let answered = async {
            let mut process: Object<Spawner> =
                self.pool.get().await.map_err(|error| match error {
                    PoolError::Backend(error) => Failure::Unstarted(error),
                    _ => Failure::Closed,
                })?;
            let answer = process.call(call).await;
            if answer.is_err() {
                // Removed now, since the pool would check the process only before the process's
                // next call.
                drop(Object::take(process));
            }
            answer.map_err(Failure::Broken)
        };
        let late = |_| Err(Failure::Late);
        timeout(self.limit, answered).await.unwrap_or_else(late)
    }

    /// Returns whether sessions are configured.
    #[must_use]
    pub const fn has_sessions(&self) -> bool {
        self.sessions.is_some()
    }

    /// Begins a session with its first call. Returns the session's name and the answer.
    ///
    /// # Errors
    ///
    /// When there is no answer. There is no session then.
    pub async fn begin(&self, call: &Call) -> Result<(String, Option<String>), Failure> {
        let store = self.sessions.as_ref().ok_or(Failure::NoSession)?;
        let spawner = self.pool.manager();
        let permit = match spawner.session_permits.clone().try_acquire_owned() {
            Ok(permit) => permit,
            Err(TryAcquireError::NoPermits) => return Err(Failure::Full),
            Err(TryAcquireError::Closed) => return Err(Failure::Closed),
        };
        let outbox = Arc::new(Outbox::new(self.heartbeat));
        let process = spawner.start_session(&outbox, permit);
        let mut process = process.map_err(Failure::Unstarted)?;
        let answer = timeout(self.limit, process.call(call)).await;
        let answer = answer
            .map_err(|_| Failure::Late)?
            .map_err(Failure::Broken)?;
        let session = Session::new(process, outbox, store.count_session());
        let name = store.create(session).await.ok_or(Failure::Closed)?;
        Ok((name, answer))
    }

    /// Sends a call to the process of a session. A failure ends the session.
    ///
    /// # Errors
    ///
    /// When there is no such session, or no answer.
    pub async fn call_in(&self, name: &str, call: &Call) -> Result<Option<String>, Failure> {
        let store = self.sessions.as_ref().ok_or(Failure::NoSession)?;
        let session = store.find(name).await.ok_or(Failure::NoSession)?;
        let failure = match timeout(self.limit, session.call(call)).await {
            Ok(Some(Ok(answer))) => return Ok(answer),
            Ok(Some(Err(broken))) => Failure::Broken(broken),
            Ok(None) => Failure::NoSession,
            Err(_) => Failure::Late,
        };
        store.remove(name).await;
        Err(failure)
    }

    /// Returns a stream of the notifications of a session.
    ///
    /// # Errors
    ///
    /// When there is no such session.
    pub async fn listen(&self, name: &str, last: Option<&str>) -> Result<Listener, Failure> {
        let store = self.sessions.as_ref().ok_or(Failure::NoSession)?;
        let session = store.find(name).await.ok_or(Failure::NoSession)?;
        session.outbox().listen(last).ok_or(Failure::NoSession)
    }

    /// Ends the session of this name. Returns whether the session existed.
    pub async fn end(&self, name: &str) -> bool {
        match &self.sessions {
            Some(store) => store.remove(name).await,
            None => false,
        }
    }

    /// Returns the size of the largest message, in bytes.
    #[must_use]
    pub fn longest(&self) -> usize {
        self.pool.manager().settings.max_message.get()
    }

    /// Returns the current numbers of the pool.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let spawner = self.pool.manager();
        Counts {
            running: spawner.groups.count(),
            idle: self.pool.status().available,
            started: spawner.started.load(Ordering::Relaxed),
            sessions: self
                .sessions
                .as_ref()
                .map_or(0, |store| store.used().active),
        }
    }
}

impl fmt::Debug for StdioClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.pool.manager().settings.command.fmt(f)
    }
}

impl fmt::Display for StdioClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let program = self.pool.manager().settings.command.first();
        f.write_str(program.map_or("", String::as_str))
    }
}
