//! Starts real servers for the tests, such as PostgreSQL. Each has a free loopback port and its own directory. Dropping
//! a `RealServer` ends its process by its id.

use std::io;
use std::net::{TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::steps::eventually;

pub struct RealServer {
    pub port: u16,
    child: Child,
    /// The signal that ends the server and its children.
    signal: &'static str,
    _beside: Option<Box<RealServer>>,
    _directory: TempDir,
}

impl RealServer {
    pub fn redis() -> Self {
        let (directory, port) = (directory(), free_port());
        let mut command = Command::new("redis-server");
        command
            .args(["--bind", "127.0.0.1", "--save", "", "--port"])
            .arg(port.to_string());
        Self::start(command, port, directory, "INT", None)
    }

    pub fn nats() -> Self {
        let (directory, port) = (directory(), free_port());
        let mut command = Command::new("nats-server");
        command
            .args(["-a", "127.0.0.1", "-p"])
            .arg(port.to_string());
        Self::start(command, port, directory, "INT", None)
    }

    pub fn mosquitto() -> Self {
        let (directory, port) = (directory(), free_port());
        let config = directory.path().join("mosquitto.conf");
        let text = format!("listener {port} 127.0.0.1\nallow_anonymous true\nuser root\n");
        std::fs::write(&config, text).expect("a file");
        let mut command = Command::new("mosquitto");
        command.arg("-c").arg(config);
        Self::start(command, port, directory, "INT", None)
    }

    /// Starts a PostgreSQL server whose superuser `postgres` needs no password.
    pub fn postgres() -> Self {
        let (directory, port) = (directory(), free_port());
        let data = directory.path().join("data");
        own(&directory, "postgres");
        let mut init = unprivileged(postgres_program("initdb"), "postgres");
        init.args(["--auth=trust", "--username=postgres", "--no-sync", "-D"])
            .arg(&data)
            .current_dir(directory.path());
        let output = init.output().expect("initdb runs");
        assert!(output.status.success(), "{output:?}");
        let mut command = unprivileged(postgres_program("postgres"), "postgres");
        command
            .arg("-D")
            .arg(&data)
            .args(["-c", "listen_addresses=127.0.0.1", "-c", "fsync=off"])
            .args(["-c", "unix_socket_directories=", "-p"])
            .arg(port.to_string());
        Self::start(command, port, directory, "INT", None)
    }

    pub fn rabbitmq() -> Self {
        // Unless a port mapper runs already, the broker starts one that outlives the broker. So this function starts a
        // port mapper, which ends with the server.
        let (map_directory, map_port) = (self::directory(), free_port());
        let mut command = Command::new("epmd");
        command
            .args(["-address", "127.0.0.1", "-port"])
            .arg(map_port.to_string());
        let map = Self::start(command, map_port, map_directory, "INT", None);
        let (directory, port, inner) = (directory(), free_port(), free_port());
        let mut command = Command::new("/usr/lib/rabbitmq/bin/rabbitmq-server");
        command
            .env("HOME", directory.path())
            .env("ERL_EPMD_PORT", map_port.to_string())
            .env("RABBITMQ_NODENAME", format!("recipe{port}@localhost"))
            .env("RABBITMQ_NODE_IP_ADDRESS", "127.0.0.1")
            .env("RABBITMQ_NODE_PORT", port.to_string())
            .env("RABBITMQ_DIST_PORT", inner.to_string())
            .env("RABBITMQ_BASE", directory.path())
            .env("RABBITMQ_MNESIA_BASE", directory.path().join("mnesia"))
            .env("RABBITMQ_LOG_BASE", directory.path().join("log"))
            .env(
                "RABBITMQ_ENABLED_PLUGINS_FILE",
                directory.path().join("plugins"),
            );
        Self::start(command, port, directory, "KILL", Some(Box::new(map)))
    }

    /// Stops the server with SIGSTOP. Its port stays open, but the server answers nothing.
    pub fn pause(&self) {
        assert!(self.signal("STOP"));
    }

    /// Sends a signal to the server and its children. Returns whether that succeeded.
    fn signal(&self, name: &str) -> bool {
        let status = Command::new("kill")
            .args(["-s", name, "--"])
            .arg(format!("-{}", self.child.id()))
            .status();
        status.is_ok_and(|status| status.success())
    }

    fn start(
        mut command: Command,
        port: u16,
        directory: TempDir,
        signal: &'static str,
        beside: Option<Box<RealServer>>,
    ) -> Self {
        let child = command
            .current_dir(directory.path())
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}; .ci/recipes installs it"));
        let mut server = Self {
            port,
            child,
            signal,
            _beside: beside,
            _directory: directory,
        };
        eventually("the server listens", || {
            if let Ok(Some(status)) = server.child.try_wait() {
                panic!("{command:?} ended: {status}");
            }
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        server
    }
}

impl Drop for RealServer {
    fn drop(&mut self) {
        self.signal(self.signal);
        let _ = self.child.wait();
    }
}

fn directory() -> TempDir {
    tempfile::tempdir().expect("a directory")
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output().expect("id runs");
    id.stdout == b"0\n"
}

fn own(directory: &TempDir, user: &str) {
    if is_root() {
        let owned = Command::new("chown")
            .arg(user)
            .arg(directory.path())
            .status();
        assert!(owned.expect("chown runs").success());
    }
}

/// Returns a command that runs `program` as `user` if the test runs as root, since PostgreSQL refuses to run as root.
fn unprivileged(program: PathBuf, user: &str) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command
        .args(["--reuid", user, "--regid", user, "--clear-groups", "--"])
        .arg(program);
    command
}

/// Returns the path of a program of PostgreSQL. Debian keeps a directory for each major version.
fn postgres_program(name: &str) -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql");
    versions
        .and_then(|mut versions| {
            versions
                .next()
                .unwrap_or(Err(io::ErrorKind::NotFound.into()))
        })
        .unwrap_or_else(|error| panic!("PostgreSQL: {error}; .ci/recipes installs it"))
        .path()
        .join("bin")
        .join(name)
}
