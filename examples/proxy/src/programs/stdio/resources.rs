//! What a session has besides its process: a directory for temporary files, a
//! socket in it by which the program can be heard, and a log. All go when the
//! process has gone.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{UnixListener, UnixStream};
use tokio::process::Command;
use tokio::task::{JoinHandle, JoinSet, spawn_blocking};
use tokio::time::sleep;
use tokio_util::codec::{FramedRead, LinesCodec};
use tracing::debug;

use super::outbox::Outbox;
use crate::config;

/// Where the program, and whatever it starts, finds the socket.
pub const SOCKET: &str = "MCP_SESSION_SOCKET";

/// Connections to the socket at the same time; further ones wait.
const MOST_WRITERS: usize = 8;

/// How long to wait when the socket cannot be accepted from.
const PAUSE: Duration = Duration::from_millis(100);

/// The longest log, in bytes. What comes after is not kept.
const LONGEST_LOG: usize = 16 << 20;

/// Owns them.
#[derive(Debug)]
pub struct Resources {
    directory: TempDir,
    listens: Option<JoinHandle<()>>,
    log: Option<SessionLog>,
}

impl Resources {
    /// What `config` says that a session has. Lines of up to `longest` bytes that
    /// come by its socket are `outbox`'s.
    ///
    /// # Errors
    ///
    /// When something cannot be made. Nothing is left then.
    pub fn new(
        config: &config::Sessions,
        outbox: &Arc<Outbox>,
        longest: usize,
    ) -> io::Result<Self> {
        let directory = tempfile::tempdir()?;
        let log = config.log.as_deref().map(SessionLog::create).transpose()?;
        let listens = config.socket.then(|| {
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

    /// Tells the program where they are.
    pub fn equip(&self, command: &mut Command) {
        command.env("TMPDIR", self.directory.path());
        if self.listens.is_some() {
            command.env(SOCKET, socket(&self.directory));
        }
    }

    /// The log, for whoever writes it.
    pub const fn take_log(&mut self) -> Option<SessionLog> {
        self.log.take()
    }

    /// Gives them up, and waits until they are gone. Dropped on the way there,
    /// they go as well.
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

/// Hands on what is written to the socket, for ever.
async fn listen(listener: UnixListener, outbox: Arc<Outbox>, longest: usize) {
    let mut writers = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if writers.len() < MOST_WRITERS => match accepted {
                Ok((stream, _)) => {
                    writers.spawn(hear(stream, outbox.clone(), longest));
                }
                Err(error) => {
                    debug!(%error, "the socket of a session cannot be accepted from");
                    sleep(PAUSE).await;
                }
            },
            Some(_) = writers.join_next() => {}
        }
    }
}

async fn hear(stream: UnixStream, outbox: Arc<Outbox>, longest: usize) {
    let mut lines = FramedRead::new(stream, LinesCodec::new_with_max_length(longest));
    while let Some(Ok(line)) = lines.next().await {
        outbox.say(&line);
    }
}

/// What the program of a session says on standard error, in a file that stays.
#[derive(Debug)]
pub struct SessionLog {
    file: tokio::fs::File,
    left: usize,
}

impl SessionLog {
    /// A file of its own in `directory`, which others cannot read.
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

    /// Appends a line.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
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
