//! Resources of a session besides its process: a directory for temporary files, a socket for
//! notifications in that directory, and a log. The directory and the socket are removed after the
//! process has ended. The log stays.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{UnixListener, UnixStream};
use tokio::process::Command;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::sleep;
use tokio_util::codec::{FramedRead, LinesCodec};
use tracing::debug;

use super::outbox::Outbox;
use crate::settings::Sessions;

/// The environment variable with the path of the socket.
pub const SOCKET: &str = "MCP_SESSION_SOCKET";

/// The number of connections to the socket at the same time. Further connections wait.
const MOST_WRITERS: usize = 8;

/// The pause after an error in accepting a connection to the socket.
const PAUSE: Duration = Duration::from_millis(100);

/// The size of the largest log, in bytes. Further lines are dropped.
const LONGEST_LOG: usize = 16 << 20;

/// The resources of one session.
#[derive(Debug)]
pub struct Resources {
    directory: TempDir,
    listens: Option<JoinHandle<()>>,
    log: Option<SessionLog>,
}

impl Resources {
    /// Creates the configured resources. Lines of up to `longest` bytes that a program writes to
    /// the socket go to `outbox`.
    ///
    /// # Errors
    ///
    /// When a resource cannot be created. The temporary directory is removed then.
    pub fn new(settings: &Sessions, outbox: &Arc<Outbox>, longest: usize) -> io::Result<Self> {
        let directory = tempfile::tempdir()?;
        let log = settings
            .log
            .as_deref()
            .map(SessionLog::create)
            .transpose()?;
        let listens = settings.socket.then(|| {
            let listener = UnixListener::bind(socket(&directory))?;
            let outbox = outbox.clone();
            Ok::<_, io::Error>(tokio::spawn(listen(listener, outbox, longest)))
        });
        Ok(Self {
            directory,
            listens: listens.transpose()?,
            log,
        })
    }

    /// Adds the paths of the directory and the socket to the program's environment.
    pub fn set_environment(&self, command: &mut Command) {
        command.env("TMPDIR", self.directory.path());
        if self.listens.is_some() {
            command.env(SOCKET, socket(&self.directory));
        }
    }

    /// Takes the log out of the resources, so that another task can write to it.
    pub const fn take_log(&mut self) -> Option<SessionLog> {
        self.log.take()
    }

    /// Removes the directory and the socket, and waits until they are gone.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future removes the directory and the socket, too.
    pub async fn close(mut self) {
        if let Some(listens) = &mut self.listens {
            listens.abort();
            let _ = listens.await;
        }
        let removed = spawn_blocking(move || drop(self)).await;
        debug!(?removed, "the resources of a session were removed");
    }
}

impl Drop for Resources {
    fn drop(&mut self) {
        if let Some(listens) = &self.listens {
            listens.abort();
        }
    }
}

fn socket(directory: &TempDir) -> std::path::PathBuf {
    directory.path().join("messages.sock")
}

/// Accepts connections to the socket, and publishes the lines that arrive, until the task is
/// aborted. The connections belong to this task, so that they are closed when it has ended.
async fn listen(listener: UnixListener, outbox: Arc<Outbox>, longest: usize) {
    let mut writers = FuturesUnordered::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if writers.len() < MOST_WRITERS => match accepted {
                Ok((stream, _)) => {
                    writers.push(forward_lines(stream, outbox.clone(), longest));
                }
                Err(error) => {
                    debug!(%error, "accepting on a session's socket failed");
                    sleep(PAUSE).await;
                }
            },
            Some(()) = writers.next() => {}
        }
    }
}

async fn forward_lines(stream: UnixStream, outbox: Arc<Outbox>, longest: usize) {
    let mut lines = FramedRead::new(stream, LinesCodec::new_with_max_length(longest));
    while let Some(Ok(line)) = lines.next().await {
        outbox.publish(&line);
    }
}

/// The log of a session's standard error. The file outlives the session.
#[derive(Debug)]
pub struct SessionLog {
    file: tokio::fs::File,
    left: usize,
}

impl SessionLog {
    /// Creates a file in `directory` that other users cannot read.
    fn create(directory: &Path) -> io::Result<Self> {
        std::fs::create_dir_all(directory)?;
        let file = tempfile::Builder::new()
            .prefix("session-")
            .suffix(".log")
            .tempfile_in(directory)?;
        let (file, _): (File, _) = file.keep()?;
        Ok(Self {
            file: tokio::fs::File::from_std(file),
            left: LONGEST_LOG,
        })
    }

    /// Appends a line. Drops it if the log would become larger than its limit.
    ///
    /// # Errors
    ///
    /// When the line cannot be written.
    pub async fn write(&mut self, line: &str) -> io::Result<()> {
        let Some(left) = self.left.checked_sub(line.len() + 1) else {
            self.left = 0;
            return Ok(());
        };
        self.left = left;
        self.file.write_all(format!("{line}\n").as_bytes()).await?;
        self.file.flush().await
    }
}
