//! Asks the programs of a pool.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use deadpool::managed::{Object, Pool, PoolError};
use tokio::sync::TryAcquireError;
use tokio::time::timeout;

use super::Spawner;
use super::message::Call;
use super::outbox::Outbox;
use super::process::Broken;
use super::session::Session;
use crate::programs::sessions::Shelf;
use crate::streams::feed::listener::Listener;

/// Uses a pool. A cheap clone: dropping one changes nothing.
#[derive(Clone)]
pub struct StdioClient {
    pub(super) pool: Pool<Spawner>,
    pub(super) sessions: Option<Shelf<Session>>,
    pub(super) limit: Duration,
    pub(super) beat: Duration,
}

/// Why a call was not answered.
#[derive(Debug)]
pub enum Failure {
    /// No process could be started.
    Unstarted(io::Error),
    /// The process broke.
    Broken(Broken),
    /// All processes were busy, or the answer did not come, for too long.
    Late,
    /// The pool is closed.
    Closed,
    /// There are as many sessions as may be.
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
            Self::Full => f.write_str("there are as many sessions as may be"),
            Self::NoSession => f.write_str("there is no such session"),
        }
    }
}

impl std::error::Error for Failure {}

/// Numbers about a pool.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Counts {
    /// Processes that were started and not reaped.
    pub running: usize,
    /// Those of them that wait for a request.
    pub idle: usize,
    /// Processes ever started.
    pub started: u64,
    /// Sessions that have not ended.
    pub sessions: u64,
}

impl StdioClient {
    /// Sends a call to a process, and waits for its answer; a notification has
    /// none.
    ///
    /// # Errors
    ///
    /// When there is no answer. The process is not used again then, nor if this
    /// is dropped half-way.
    pub async fn call(&self, call: &Call) -> Result<Option<String>, Failure> {
        let answered = async {
            let mut process: Object<Spawner> =
                self.pool.get().await.map_err(|error| match error {
                    PoolError::Backend(error) => Failure::Unstarted(error),
                    _ => Failure::Closed,
                })?;
            let answer = process.call(call).await;
            if answer.is_err() {
                // Given up here, as the pool would look at it only when it is
                // wanted again.
                drop(Object::take(process));
            }
            answer.map_err(Failure::Broken)
        };
        let late = |_| Err(Failure::Late);
        timeout(self.limit, answered).await.unwrap_or_else(late)
    }

    /// Whether a client may have a process of its own.
    #[must_use]
    pub const fn has_sessions(&self) -> bool {
        self.sessions.is_some()
    }

    /// Begins a session with its first call. Returns its name with the answer.
    ///
    /// # Errors
    ///
    /// When there is no answer; then there is no session either.
    pub async fn begin(&self, call: &Call) -> Result<(String, Option<String>), Failure> {
        let shelf = self.sessions.as_ref().ok_or(Failure::NoSession)?;
        let spawner = self.pool.manager();
        let place = match spawner.session_places.clone().try_acquire_owned() {
            Ok(place) => place,
            Err(TryAcquireError::NoPermits) => return Err(Failure::Full),
            Err(TryAcquireError::Closed) => return Err(Failure::Closed),
        };
        let outbox = Arc::new(Outbox::new(self.beat));
        let process = spawner.start_for(&outbox, place);
        let mut process = process.map_err(Failure::Unstarted)?;
        let answer = timeout(self.limit, process.call(call)).await;
        let answer = answer
            .map_err(|_| Failure::Late)?
            .map_err(Failure::Broken)?;
        let session = Session::new(process, outbox, shelf.enter());
        let name = shelf.begin(session).await.ok_or(Failure::Closed)?;
        Ok((name, answer))
    }

    /// Sends a call to the process of a session. A session whose process breaks
    /// is ended.
    ///
    /// # Errors
    ///
    /// When there is no answer.
    pub async fn call_in(&self, name: &str, call: &Call) -> Result<Option<String>, Failure> {
        let shelf = self.sessions.as_ref().ok_or(Failure::NoSession)?;
        let session = shelf.find(name).await.ok_or(Failure::NoSession)?;
        let failure = match timeout(self.limit, session.call(call)).await {
            Ok(Some(Ok(answer))) => return Ok(answer),
            Ok(Some(Err(broken))) => Failure::Broken(broken),
            Ok(None) => Failure::NoSession,
            Err(_) => Failure::Late,
        };
        shelf.end(name).await;
        Err(failure)
    }

    /// A stream of what the program of a session says unasked.
    ///
    /// # Errors
    ///
    /// When there is no such session.
    pub async fn listen(&self, name: &str, last: Option<&str>) -> Result<Listener, Failure> {
        let shelf = self.sessions.as_ref().ok_or(Failure::NoSession)?;
        let session = shelf.find(name).await.ok_or(Failure::NoSession)?;
        session.outbox().listen(last).ok_or(Failure::NoSession)
    }

    /// Ends a session. Whether there was one.
    pub async fn end(&self, name: &str) -> bool {
        match &self.sessions {
            Some(shelf) => shelf.end(name).await,
            None => false,
        }
    }

    /// The longest message, in bytes.
    #[must_use]
    pub fn longest(&self) -> usize {
        self.pool.manager().config.max_message.get()
    }

    /// The numbers now.
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
                .map_or(0, |shelf| shelf.used().active),
        }
    }
}

impl fmt::Debug for StdioClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.pool.manager().config.command.fmt(f)
    }
}

impl fmt::Display for StdioClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let program = self.pool.manager().config.command.first();
        f.write_str(program.map_or("", String::as_str))
    }
}
