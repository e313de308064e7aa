//! Child processes that are signalled, watched, and always ended.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags, open};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

/// Longer than anything here takes, also on a machine that is busy.
const BOUND: Duration = Duration::from_secs(60);

/// A server that runs. Killed when it is dropped.
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
    /// The exit code; `None` if a signal killed it.
    pub code: Option<i32>,
    /// Its lines; those of stderr begin with `! `.
    pub lines: Vec<String>,
}

impl Ended {
    /// Whether one line contains all of these.
    pub fn says(&self, parts: &[&str]) -> bool {
        self.lines
            .iter()
            .any(|line| parts.iter().all(|part| line.contains(part)))
    }
}

impl Process {
    /// Starts `program`; what it writes is read line by line, stderr with `! ` before each.
    ///
    /// # Panics
    ///
    /// If it cannot be started.
    pub fn start(program: &str, args: &[&str]) -> Self {
        let (reads, writes) = std::io::pipe().expect("there are pipes");
        Self::start_with(program, args, Box::new(reads), writes.into())
    }

    /// Starts `program` with a terminal as its stderr.
    ///
    /// # Panics
    ///
    /// If it cannot be started, or there are no terminals.
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
            // A backtrace takes longer than a forced end waits.
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
                    // The test may have seen enough.
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
    /// If the server ends first, or takes longer than anything should.
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

    /// Sends it a signal.
    ///
    /// # Panics
    ///
    /// If it is gone.
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id())
            .ok()
            .and_then(Pid::from_raw)
            .expect("a pid");
        kill_process(pid, signal).expect("the server lives");
    }

    /// Lets the time pass in which a signal is a repeat of the one before.
    pub fn no_longer_a_repeat(&self) {
        // At least 500 ms; any longer is as good.
        thread::sleep(Duration::from_millis(600));
    }

    /// Writes it a line.
    ///
    /// # Panics
    ///
    /// If it is gone.
    pub fn tell(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().expect("stdin is a pipe");
        writeln!(stdin, "{line}").expect("the server reads");
    }

    /// Waits for its end.
    ///
    /// # Panics
    ///
    /// If that takes longer than anything should.
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
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns the two ends of a pseudoterminal: the one that shows what is written, and the one that programs write to.
fn terminal() -> std::io::Result<(File, File)> {
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY)?;
    grantpt(&ours)?;
    unlockpt(&ours)?;
    let name = ptsname(&ours, Vec::new())?;
    let theirs = open(&*name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty())?;
    Ok((ours.into(), theirs.into()))
}
