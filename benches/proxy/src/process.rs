//! Starts processes for a measurement, and ends them after it.

use std::fs::File;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::param::clock_ticks_per_second;
use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};
use rustix::time::{ClockId, clock_gettime};

use crate::Result;

/// The longest time that a process may take to start or to end.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running server process. Dropping the value ends the process.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
}

impl Server {
    /// Starts a server that listens on `address`, and waits until the server accepts a connection there.
    pub(crate) fn start(command: &mut Command, address: SocketAddr, log: &Path) -> Result<Self> {
        let log = File::create(log)?;
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        let child = command
            .spawn()
            .map_err(|error| format!("{}: {error}", command.get_program().display()))?;
        let mut server = Self { child, address };
        server.wait_until_it_listens()?;
        Ok(server)
    }

    fn wait_until_it_listens(&mut self) -> Result<()> {
        let end = Instant::now() + PATIENCE;
        while TcpStream::connect(self.address).is_err() {
            if let Some(status) = self.child.try_wait()? {
                return Err(format!("a server that was started ended: {status}").into());
            }
            if Instant::now() > end {
                return Err(format!("nobody listens on {}", self.address).into());
            }
            sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Sends SIGTERM to the server and waits until it has ended. Returns whether the server exited with success.
    pub(crate) fn stop(&mut self) -> Result<bool> {
        kill_process(self.pid(), Signal::TERM)?;
        Ok(self.child.wait()?.success())
    }

    /// Returns the processor time that the server and its children have used.
    pub(crate) fn processor_time(&self) -> Result<Duration> {
        let ticks = ticks(self.child.id())?;
        Ok(Duration::from_secs(ticks) / u32::try_from(clock_ticks_per_second())?)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // SIGTERM comes first, since SIGKILL would end only nginx's master and leave its workers.
        let _ = kill_process(self.pid(), Signal::TERM);
        let end = Instant::now() + Duration::from_secs(5);
        while matches!(self.child.try_wait(), Ok(None)) && Instant::now() < end {
            sleep(Duration::from_millis(5));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn ticks(pid: u32) -> Result<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The second field is the process's name in parentheses. It may contain spaces, so the other fields are split after
    // the last parenthesis.
    let fields = stat.rsplit_once(')').ok_or("no name in a stat")?.1;
    let field = |number: usize| fields.split_whitespace().nth(number).unwrap_or("0").parse();
    let own: u64 = field(11)?;
    let system: u64 = field(12)?;
    let mut sum = own + system;
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
    for child in children.split_whitespace() {
        sum += ticks(child.parse()?)?;
    }
    Ok(sum)
}

/// Returns a local address on which no socket listens now.
pub(crate) fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// Returns the command that runs the benchmark's own program in the given role.
pub(crate) fn this_as(role: &str) -> Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(role);
    Ok(command)
}

/// Builds the proxy with the release profile, and returns the path of its program.
pub(crate) fn build_proxy() -> Result<PathBuf> {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../../Cargo.toml");
    let built = Command::new(std::env::var("CARGO").unwrap_or_else(|_| "cargo".into()))
        .args([
            "build",
            "--release",
            "-p",
            "lifecycle-proxy",
            "--bin",
            "proxy",
        ])
        .args(["--message-format", "json", "--manifest-path", manifest])
        .stderr(Stdio::inherit())
        .output()?;
    let text = String::from_utf8(built.stdout)?;
    let executable = text.lines().find_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        Some(PathBuf::from(message["executable"].as_str()?))
    });
    executable.ok_or_else(|| "the proxy was not built".into())
}

/// Raises the limit of open files to the highest value that the system allows, for this process and the processes that
/// it starts. Returns that value.
pub(crate) fn raise_open_files() -> Result<u64> {
    let limit = getrlimit(Resource::Nofile);
    let current = limit.maximum;
    setrlimit(Resource::Nofile, Rlimit { current, ..limit })?;
    Ok(current.unwrap_or(u64::MAX))
}

/// Returns the time of the monotonic clock, which all processes of the machine share.
pub(crate) fn now() -> Duration {
    let now = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    Duration::from_secs(seconds) + Duration::from_nanos(u64::try_from(now.tv_nsec).unwrap_or(0))
}
