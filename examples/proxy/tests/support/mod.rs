//! Helpers for tests with real proxies, real sockets and real signals. Every wait is bounded: after
//! [`PATIENCE`] the test fails with the proxy's log.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "a library for the test binaries, of which each uses a part"
)]

pub mod client;
pub mod link;
pub mod peer;
pub mod registry;
pub mod upstream;

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

pub use client::Client;
pub use upstream::Upstream;

/// The time after which a wait fails.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Polls `look` until it returns a value. Panics with `what` after [`PATIENCE`].
pub fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < end, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A running proxy, in a directory of its own.
pub struct Proxy {
    child: Child,
    log: Log,
    stdout: Option<JoinHandle<String>>,
    stderr: Option<JoinHandle<()>>,
    directory: TempDir,
}

/// The exit status, the log and the directory of a proxy that has ended.
pub struct Ended {
    pub status: ExitStatus,
    pub stdout: String,
    pub log: Log,
    pub directory: TempDir,
}

/// The log lines that a proxy has written so far.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Vec<String>>>);

impl Proxy {
    /// Starts the program with this configuration on a free port. Waits until it serves.
    pub fn start(config: &str) -> Self {
        let proxy = Self::spawn(config, &[]);
        proxy.log.find("waiting for connections");
        proxy
    }

    /// Starts the program with `upstream` as its upstream. Waits until it serves.
    pub fn before(upstream: &Upstream, config: &str) -> Self {
        Self::start(&format!("upstream: http://{}\n{config}", upstream.address))
    }

    /// Starts the program in the directory of an earlier proxy. Waits until it serves.
    pub fn again(directory: TempDir, config: &str) -> Self {
        let proxy = Self::spawn_in(directory, config, &[]);
        proxy.log.find("waiting for connections");
        proxy
    }

    /// Starts the program, and does not wait until it serves.
    pub fn spawn(config: &str, arguments: &[&str]) -> Self {
        Self::spawn_in(tempfile::tempdir().unwrap(), config, arguments)
    }

    fn spawn_in(directory: TempDir, config: &str, arguments: &[&str]) -> Self {
        let file = directory.path().join("proxy.yaml");
        std::fs::write(&file, config).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_proxy"));
        command
            .arg("-c")
            .arg(&file)
            .args(["--listen", "127.0.0.1:0"]);
        command.args(arguments);
        Self::launch(command, directory)
    }

    /// Runs a command that starts the proxy or becomes the proxy.
    pub fn launch(mut command: Command, directory: TempDir) -> Self {
        command.env_remove("RUST_LOG").current_dir(directory.path());
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdout = child.stdout.take().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let stdout = std::thread::spawn(move || {
            let mut text = String::new();
            stdout.read_to_string(&mut text).unwrap();
            text
        });
        let log = Log::default();
        let lines = log.clone();
        let stderr = std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                lines.0.lock().unwrap().push(line);
            }
        });
        Self {
            child,
            log,
            stdout: Some(stdout),
            stderr: Some(stderr),
            directory,
        }
    }

    /// Returns the log, which grows while the proxy runs.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// Returns the address that serves HTTP.
    pub fn address(&self) -> SocketAddr {
        self.address_in("listening")
    }

    /// Returns the address of the admin listener.
    pub fn metrics_address(&self) -> SocketAddr {
        self.address_in("serving metrics and probes")
    }

    /// Returns the address on which the proxy receives datagrams of peers.
    pub fn peers_address(&self) -> SocketAddr {
        self.address_in("listening for peers")
    }

    fn address_in(&self, message: &str) -> SocketAddr {
        let line = self.log.find(message);
        line["address"].as_str().unwrap().parse().unwrap()
    }

    /// Returns the address that serves TLS.
    pub fn tls_address(&self) -> SocketAddr {
        self.address_in("listening for TLS")
    }

    /// Returns the text of the page `/metrics`.
    #[track_caller]
    pub fn metrics(&self) -> String {
        let (response, text) = Client::connect(self.metrics_address()).get("/metrics");
        assert_eq!(response.status, 200);
        String::from_utf8(text).unwrap()
    }

    /// Opens a connection to the proxy.
    pub fn connect(&self) -> Client {
        Client::connect(self.address())
    }

    /// Returns the path of a file in the proxy's directory.
    pub fn file(&self, name: &str) -> std::path::PathBuf {
        self.directory.path().join(name)
    }

    /// Returns the process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal to the proxy's process.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).unwrap();
    }

    /// Sends SIGTERM. Waits until the proxy no longer listens.
    pub fn drain(&self) {
        self.signal(Signal::TERM);
        self.log.find("no longer listening");
    }

    /// Waits for the end of the process, and returns its results.
    pub fn wait(mut self) -> Ended {
        let log = self.log.clone();
        let status = eventually("the end of the proxy", || {
            self.child.try_wait().unwrap().or_else(|| {
                log.expect_no_panic();
                None
            })
        });
        // Joins the thread that reads the log, so that the log is complete.
        self.stderr.take().unwrap().join().unwrap();
        Ended {
            status,
            stdout: self.stdout.take().unwrap().join().unwrap(),
            log: self.log.clone(),
            directory: std::mem::replace(&mut self.directory, tempfile::tempdir().unwrap()),
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- the proxy's log ---\n{}", self.log.text());
        }
    }
}

impl Ended {
    /// Returns the exit code of the process.
    #[track_caller]
    pub fn code(&self) -> i32 {
        let text = self.log.text();
        let status = self.status;
        status.code().unwrap_or_else(|| panic!("{status}\n{text}"))
    }

    /// Returns the shutdown reports in the log. Each process that wrote to the log has one.
    pub fn report(&self) -> String {
        let lines = self.log.all("shutdown report");
        let reports = lines.iter().filter_map(|line| line["report"].as_str());
        reports.collect::<Vec<_>>().join("\n")
    }
}

impl Log {
    /// Returns all lines of the log as one text.
    pub fn text(&self) -> String {
        self.0.lock().unwrap().join("\n")
    }

    /// Waits until the log has a line with this message. Returns the first such line.
    #[track_caller]
    pub fn find(&self, message: &str) -> Value {
        eventually(message, || {
            self.all(message).into_iter().next().or_else(|| {
                self.expect_no_panic();
                None
            })
        })
    }

    /// Returns all lines with this message that the log has now.
    pub fn all(&self, message: &str) -> Vec<Value> {
        let lines = self.0.lock().unwrap();
        let lines = lines
            .iter()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.filter(|line| line["message"] == message).collect()
    }

    /// Waits until the log has a line that contains this text, in any format of the log.
    #[track_caller]
    pub fn expect_text(&self, text: &str) {
        eventually(text, || self.text().contains(text).then_some(()));
    }

    #[track_caller]
    fn expect_no_panic(&self) {
        let text = self.text();
        assert!(!text.contains("panicked at"), "{text}");
    }
}
