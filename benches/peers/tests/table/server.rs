//! Runs a server of a peer as a child process, sends it commands, and reads the lines that it prints.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

/// The longest time that a test waits for the next line of the server.
const PATIENCE: Duration = Duration::from_secs(60);

pub struct Server {
    peer: String,
    child: Child,
    commands: ChildStdin,
    lines: Receiver<String>,
    /// The lines of the server that the test has read so far.
    pub read: Vec<String>,
}

impl Server {
    /// Starts a peer's server, and waits until it serves.
    pub fn start(peer: &str, scenario: &str) -> Self {
        // A test that runs in the background of a shell or under nohup inherits signals that are ignored.
        let mut child = Command::new("env")
            .arg("--default-signal=TERM,INT,QUIT,HUP")
            .arg(env!("CARGO_BIN_EXE_lifecycle-peers"))
            .args([peer, scenario])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("it starts");
        let output = BufReader::new(child.stdout.take().expect("a pipe"));
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let mut server = Self {
            peer: peer.to_owned(),
            commands: child.stdin.take().expect("a pipe"),
            child,
            lines,
            read: Vec::new(),
        };
        server.until("serving");
        server
    }

    pub fn say(&mut self, command: &str) {
        writeln!(self.commands, "{command}").expect("it reads commands");
    }

    pub fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        let status = Command::new("kill").args(["-s", name, &id]).status();
        assert!(status.expect("kill runs").success());
    }

    /// Sends a signal until the server prints a line, and returns whether it does; the server may also be killed. A peer
    /// loses a signal that comes while it begins to listen.
    pub fn signal_until_line(&mut self, name: &str) -> bool {
        use std::sync::mpsc::RecvTimeoutError;
        for _ in 0..10 {
            let id = self.child.id().to_string();
            // It fails if the last signal has killed the server.
            let _ = Command::new("kill").args(["-s", name, &id]).status();
            match self.lines.recv_timeout(Duration::from_secs(3)) {
                Ok(line) => {
                    self.read.push(line);
                    return true;
                }
                Err(RecvTimeoutError::Disconnected) => return false,
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
        panic!("{}: no line after {name}: {:?}", self.peer, self.read)
    }

    /// Reads the next line of the server. Returns `None` if the server has ended.
    pub fn line(&mut self) -> Option<String> {
        use std::sync::mpsc::RecvTimeoutError;
        match self.lines.recv_timeout(PATIENCE) {
            Ok(line) => {
                self.read.push(line.clone());
                Some(line)
            }
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => {
                panic!("{}: no line after {:?}", self.peer, self.read)
            }
        }
    }

    /// Reads until a line begins with the prefix, and returns the rest of that line.
    pub fn until(&mut self, start: &str) -> String {
        if let Some(line) = self.read.iter().find(|line| line.starts_with(start)) {
            return line[start.len()..].trim_start().to_owned();
        }
        loop {
            let Some(line) = self.line() else {
                panic!("{}: it ended without `{start}`: {:?}", self.peer, self.read);
            };
            if let Some(rest) = line.strip_prefix(start) {
                return rest.trim_start().to_owned();
            }
        }
    }

    /// Waits until both parts have the signal to stop, so that neither part ends before the other gets the signal.
    pub fn both_told(&mut self) {
        self.until("A told");
        self.until("B told");
    }

    /// Reads the result of the shutdown, and asserts that the process exits with success.
    pub fn result(&mut self) -> String {
        let result = self.until("result");
        assert!(self.child.wait().expect("it ends").success());
        result
    }

    /// Returns whether the line that begins with `first` came before the line that begins with `second`.
    pub fn came_before(&self, first: &str, second: &str) -> bool {
        let place = |line: &str| self.read.iter().position(|read| read.starts_with(line));
        place(first) < place(second)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
