//! A running program from the side of its caller, which writes lines to it and reads lines from it.

use std::fmt;
use std::io;
use std::sync::Arc;

use futures_util::{FutureExt as _, StreamExt as _};
use tokio::io::AsyncWriteExt as _;
use tokio::process::{ChildStdin, ChildStdout};
use tokio_util::codec::{FramedRead, LinesCodec, LinesCodecError};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::message::Call;
use super::outbox::Outbox;

/// The reason why a process cannot be used any more.
#[derive(Debug)]
pub enum Broken {
    /// The process closed its standard output, or has ended.
    Closed,
    /// The process's input could not be written to.
    Unwritable(io::Error),
    /// The process wrote a line that is too long or not UTF-8.
    Unreadable(LinesCodecError),
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("it closed its standard output"),
            Self::Unwritable(error) => write!(f, "it could not be written to: {error}"),
            Self::Unreadable(error) => write!(f, "its answer could not be read: {error}"),
        }
    }
}

impl std::error::Error for Broken {}

/// A process that answers one request at a time. Dropping it closes the process's input. The
/// supervisor then waits until the process ends, or stops it.
#[derive(Debug)]
pub struct Process {
    /// The input of the process. Declared before `_released`, so that it is dropped first: the
    /// supervisor expects the input to be closed.
    stdin: ChildStdin,
    lines: FramedRead<ChildStdout, LinesCodec>,
    ended: CancellationToken,
    calls: u64,
    /// Whether a request was sent and its answer was not read. The next line could then be the
    /// answer to that request.
    open: bool,
    /// The receiver of lines that are not answers to a request.
    outbox: Option<Arc<Outbox>>,
    _released: DropGuard,
}

impl Process {
    pub(super) fn new(
        stdin: ChildStdin,
        stdout: ChildStdout,
        longest: usize,
        ended: CancellationToken,
        released: DropGuard,
        outbox: Option<Arc<Outbox>>,
    ) -> Self {
        Self {
            stdin,
            lines: FramedRead::new(stdout, LinesCodec::new_with_max_length(longest)),
            ended,
            calls: 0,
            open: false,
            outbox,
            _released: released,
        }
    }

    /// Sends a call and waits for its answer. Returns `None` for a notification, which has no
    /// answer.
    ///
    /// # Errors
    ///
    /// When the process is broken. The process cannot be used again then.
    ///
    /// # Cancel safety
    ///
    /// Not safe: if the future of a call is dropped, the process cannot be used again. See
    /// [`is_usable`](Self::is_usable).
    pub async fn call(&mut self, call: &Call) -> Result<Option<String>, Broken> {
        self.calls += 1;
        self.open = true;
        let line = call.line(self.calls);
        self.stdin
            .write_all(line.as_bytes())
            .await
            .map_err(Broken::Unwritable)?;
        self.stdin.flush().await.map_err(Broken::Unwritable)?;
        let mut answer = None;
        while !call.is_notification() && answer.is_none() {
            let line = self.lines.next().await.ok_or(Broken::Closed)?;
            let line = line.map_err(Broken::Unreadable)?;
            answer = call.answer(self.calls, &line);
            if let (None, Some(outbox)) = (&answer, &self.outbox) {
                outbox.publish(&line);
            }
        }
        self.open = false;
        Ok(answer)
    }

    /// Returns whether the process can take another call. Discards lines that the process wrote
    /// without a request.
    pub fn is_usable(&mut self) -> bool {
        while !self.open && !self.ended.is_cancelled() {
            match self.lines.next().now_or_never() {
                None => return true,
                Some(Some(Ok(_))) => {}
                Some(_) => return false,
            }
        }
        false
    }

    /// Returns whether the process has ended.
    pub fn has_ended(&self) -> bool {
        self.ended.is_cancelled()
    }
}
