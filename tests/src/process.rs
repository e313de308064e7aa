//! Child processes for tests. A test can signal them and read their output, and none outlives its test.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags, open};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

/// The longest time that a test waits for a line or for the server's end. It is enough also on a busy machine.
const BOUND: Duration = Duration::from_secs(60);

/// A running server process. Dropping the value kills the process.
#[derive(Debug)]
pub struct Process {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    seen: Vec<String>,
    readers: Vec<JoinHandle<()>>,
}

/// A server that has ended.
#[derive(Debug)]
pub struct Ended {
    /// The exit code, or `None` if a signal killed the server.
    pub code: Option<i32>,
    /// The lines that the server wrote. Lines from stderr begin with `! `.
    pub lines: Vec<String>,
}

impl Ended {
    /// Returns whether a line of the server contains all texts in `parts`.
    pub fn says(&self, parts: &[&str]) -> bool {
        self.lines
            .iter()
            .any(|line| parts.iter().all(|part| line.contains(part)))
    }
}

impl Process {
    /// Starts `program` and reads the lines that it writes. Lines from stderr get the prefix `! `.
    ///
    /// # Panics
    ///
    /// If the program cannot be started.
    pub fn start(program: &str, args: &[&str]) -> Self {
        let (reads, writes) = std::io::pipe().expect("there are pipes");
        Self::start_with(program, args, Box::new(reads), writes.into())
    }

    /// Starts `program` with a terminal as its stderr.
    ///
    /// # Panics
    ///
    /// If the program cannot be started, or there are no terminals.
    pub fn start_at_terminal(program: &str, args: &[&str]) -> Self {
        let (ours, theirs) = terminal().expect("there are pseudoterminals");
        Self::start_with(program, args, Box::new(ours), theirs.into())
    }

    fn start_with(
        program: &str,
        args: &[&str],
        stderr: Box<dyn Read + Send>,
        theirs: Stdio,
    ) -> Self {
        let mut child = Command::new(program)
            .args(args)
            // A forced end exits without waiting long. Printing a backtrace would take longer than that.
            .env("RUST_BACKTRACE", "0")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(theirs)
            .spawn()
            .expect("the server starts");
        let (sender, lines) = channel();
        let mut readers = Vec::new();
        let mut read = |from: Box<dyn Read + Send>, mark: &'static str| {
            let sender = sender.clone();
            readers.push(thread::spawn(move || {
                for line in BufReader::new(from).lines().map_while(Result::ok) {
                    // Sending fails if the test no longer reads, and then the line is not needed.
                    let _ = sender.send(format!("{mark}{line}"));
                }
            }));
        };
        read(Box::new(child.stdout.take().expect("stdout is a pipe")), "");
        read(stderr, "! ");
        Self {
            stdin: child.stdin.take(),
            child,
            lines,
            seen: Vec::new(),
            readers,
        }
    }

    /// Waits for a line that contains `marker`, and returns it.
    ///
    /// # Panics
    ///
    /// If the server ends first, or does not write the line within a minute.
    pub fn wait_for(&mut self, marker: &str) -> String {
        let until = Instant::now() + BOUND;
        loop {
            match self
                .lines
                .recv_timeout(until.saturating_duration_since(Instant::now()))
            {
                Ok(line) => {
                    self.seen.push(line.clone());
                    if line.contains(marker) {
                        return line;
                    }
                }
                Err(RecvTimeoutError::Timeout) => panic!("no `{marker}` in time: {:#?}", self.seen),
                Err(RecvTimeoutError::Disconnected) => {
                    panic!("it ended without `{marker}`: {:#?}", self.seen)
                }
            }
        }
    }

    /// Sends a signal to the server.
    ///
    /// # Panics
    ///
    /// If the server has ended.
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id())
            .ok()
            .and_then(Pid::from_raw)
            .expect("a pid");
        kill_process(pid, signal).expect("the server lives");
    }

    /// Waits until the server counts the next signal as a new signal, and not as a repeat of the last one.
    pub fn no_longer_a_repeat(&self) {
        // The runner counts a signal within 500 ms of the last one as a repeat of it. A second is more than that, also
        // if a busy machine handles the last signal late.
        thread::sleep(Duration::from_secs(1));
    }

    /// Writes a line to the server's stdin.
    ///
    /// # Panics
    ///
    /// If the server has ended.
    pub fn tell(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().expect("stdin is a pipe");
        writeln!(stdin, "{line}").expect("the server reads");
    }

    /// Waits until the server has ended.
    ///
    /// # Panics
    ///
    /// If the server does not end within a minute.
    pub fn end(mut self) -> Ended {
        let until = Instant::now() + BOUND;
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("it can be waited for") {
                break status;
            }
            if Instant::now() > until {
                let _ = self.child.kill();
                self.seen.extend(self.lines.try_iter());
                panic!("it does not end: {:#?}", self.seen);
            }
            thread::sleep(Duration::from_millis(5));
        };
        for reader in self.readers.drain(..) {
            reader.join().expect("a reader does not panic");
        }
        let mut lines = std::mem::take(&mut self.seen);
        lines.extend(self.lines.try_iter());
        Ended {
            code: status.code(),
            lines,
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Killing fails if the server has ended by itself, which is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns the two ends of a pseudoterminal: the end from which the test reads, and the end to which the program
/// writes.
fn terminal() -> std::io::Result<(File, File)> {
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY)?;
    grantpt(&ours)?;
    unlockpt(&ours)?;
    let name = ptsname(&ours, Vec::new())?;
    let theirs = open(&*name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty())?;
    Ok((ours.into(), theirs.into()))
}
