//! Tests of restarts: a new process takes over without losing a request, or the old process goes
//! on. A service manager passes sockets and gets notifications.

mod support;

use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::{Value, json};
use support::link::Link;
use support::peer::Peer;
use support::registry::Registry;
use support::{Client, Ended, Proxy, eventually};
use tempfile::TempDir;

const STARTED: &str = "restart: a new process was started";
const HANDED_OVER: &str = "handed over: a new process serves";
const FAILED: &str = "restart failed: this process goes on as before";
const ADMIN: &str = "metrics: {enabled: true, address: \"127.0.0.1:0\"}\n";

/// A proxy whose process may be replaced. All its processes write to one log.
struct Service {
    proxy: Option<Proxy>,
    current: Pid,
    program: PathBuf,
}

impl Service {
    fn start(config: &str) -> Self {
        Self::start_with(config, |command| command)
    }

    /// Starts the proxy. `wrap` gets the proxy's command, and returns a command that runs it or
    /// becomes it.
    fn start_with(config: &str, wrap: impl FnOnce(Command) -> Command) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let program = directory.path().join("proxy");
        symlink(env!("CARGO_BIN_EXE_proxy"), &program).unwrap();
        let command = command(&program, &directory, config);
        let proxy = Proxy::launch(wrap(command), directory);
        let current = Pid::from_raw(proxy.id().try_into().unwrap()).unwrap();
        let service = Self {
            proxy: Some(proxy),
            current,
            program,
        };
        service.log().find("waiting for connections");
        service
    }

    fn proxy(&self) -> &Proxy {
        self.proxy.as_ref().unwrap()
    }

    fn log(&self) -> &support::Log {
        self.proxy().log()
    }

    /// Waits until the log has `count` lines with this message. Returns the last of them.
    #[track_caller]
    fn line(&self, message: &str, count: usize) -> Value {
        eventually(message, || {
            let lines = self.log().all(message);
            (lines.len() >= count).then(|| lines[count - 1].clone())
        })
    }

    /// Requests a restart, and waits until the new process serves.
    #[track_caller]
    fn restart(&mut self) {
        let count = self.log().all(HANDED_OVER).len();
        self.signal(Signal::USR2);
        let line = self.line(HANDED_OVER, count + 1);
        self.current = pid_of(&line);
    }

    fn signal(&self, signal: Signal) {
        kill_process(self.current, signal).unwrap();
    }

    /// Replaces the file of the program by a script.
    fn replace_program(&self, script: &str) {
        std::fs::remove_file(&self.program).unwrap();
        std::fs::write(&self.program, format!("#!/bin/sh\n{script}\n")).unwrap();
        let all = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(&self.program, all).unwrap();
    }

    fn restore_program(&self) {
        std::fs::remove_file(&self.program).unwrap();
        symlink(env!("CARGO_BIN_EXE_proxy"), &self.program).unwrap();
    }

    /// Ends the process that serves now.
    fn end(self) -> Ended {
        self.signal(Signal::TERM);
        self.wait()
    }

    /// Waits for the end of all processes. Returns the exit status and the files of the first
    /// process.
    fn wait(mut self) -> Ended {
        self.proxy.take().unwrap().wait()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let Some(proxy) = self.proxy.take() else {
            return;
        };
        if self.current.as_raw_nonzero().get() != i32::try_from(proxy.id()).unwrap() {
            let _ = kill_process(self.current, Signal::KILL);
        }
    }
}

fn command(program: &Path, directory: &TempDir, config: &str) -> Command {
    let file = directory.path().join("proxy.yaml");
    std::fs::write(&file, config).unwrap();
    let mut command = Command::new(program);
    command.arg("-c").arg(file);
    command.args(["--listen", "127.0.0.1:0"]);
    command
}

fn pid_of(line: &Value) -> Pid {
    let pid = line["pid"].as_i64().unwrap();
    Pid::from_raw(pid.try_into().unwrap()).unwrap()
}

fn is_gone(pid: Pid) -> bool {
    test_kill_process(pid).is_err()
}

/// A number of clients that connect again and again until they are stopped.
struct Crowd {
    enough: Arc<AtomicBool>,
    clients: Vec<JoinHandle<u32>>,
}

impl Crowd {
    /// Starts `count` clients, each of which repeats `visit`.
    fn of(count: usize, visit: impl Fn() + Clone + Send + 'static) -> Self {
        let enough = Arc::new(AtomicBool::new(false));
        let client = |_| {
            let (enough, visit) = (enough.clone(), visit.clone());
            std::thread::spawn(move || {
                let mut visits = 0;
                while !enough.load(Ordering::Relaxed) {
                    visit();
                    visits += 1;
                }
                visits
            })
        };
        let clients = (0..count).map(client).collect();
        Self { enough, clients }
    }

    /// Stops the clients. Panics if a request of a client has failed.
    #[track_caller]
    fn leave(self) {
        self.enough.store(true, Ordering::Relaxed);
        for client in self.clients {
            assert!(client.join().unwrap() > 0);
        }
    }
}

/// Sends requests on one connection until a response contains `Connection: close`.
fn visit(address: SocketAddr, path: &str) {
    let mut client = Client::connect(address);
    for _ in 0..100 {
        let (response, _) = client.get(path);
        assert_eq!(response.status, 200, "{}", response.head);
        if response.header("connection") == Some("close") {
            return;
        }
    }
}

#[test]
fn restarts_refuse_no_connection_lose_no_request_and_fail_no_probe() {
    let config = format!("{ADMIN}tls: {{listen_addrs: [\"127.0.0.1:0\"], allow: [{{name: a}}]}}");
    let mut service = Service::start(&config);
    let address = service.proxy().address();
    let admin = service.proxy().metrics_address();
    let tls = service.proxy().tls_address();
    let requests = Crowd::of(2, move || visit(address, "/"));
    let probes = Crowd::of(1, move || visit(admin, "/readyz"));
    for _ in 0..3 {
        let old = service.current;
        service.restart();
        assert_ne!(service.current, old);
    }
    requests.leave();
    probes.leave();
    for (message, address) in [
        ("listening", address),
        ("listening for TLS", tls),
        ("serving metrics and probes", admin),
    ] {
        let line = service.line(message, 4);
        assert_eq!(line["address"], address.to_string(), "{message}");
    }
    // The three earlier processes must have ended, so that only the fourth process can answer.
    service.line("all complete", 3);
    visit(address, "/");
    visit(admin, "/readyz");
    let mut client = Client::connect(tls);
    client.send("no TLS at all");
    client.rest();
    let ended = service.end();
    assert_eq!(ended.code(), 0, "{}", ended.log.text());
    assert_eq!(ended.log.all("all complete").len(), 4);
}

#[test]
fn the_old_process_finishes_its_requests_and_tells_clients_to_reconnect() {
    // Neither of these times is waited for: the process ends as soon as its clients have left.
    let mut service = Service::start("lame_duck: 600\nrestart: {linger: 600}");
    let mut kept = service.proxy().connect();
    assert_eq!(kept.get("/").0.header("connection"), None);
    let mut slow = service.proxy().connect();
    slow.ask("/slow?seconds=1");
    let head = slow.response_head();

    let first = service.current;
    service.restart();
    let body = slow.body(&head.head);
    assert!(body.ends_with(b"tick 10 of 10\n"));
    drop(slow);
    assert!(!is_gone(first), "it has a client");
    eventually("the last answer", || {
        (kept.get("/").0.header("connection") == Some("close")).then_some(())
    });
    assert_eq!(kept.rest(), b"");
    let line = service.line("all complete", 1);
    assert_eq!(line["level"], "INFO");
    visit(service.proxy().address(), "/");

    // Ends the second process with SIGINT, for which it skips its lame duck of 600 seconds.
    kill_process(service.current, Signal::INT).unwrap();
    service.line("all complete", 2);
}

#[test]
fn a_probe_that_reaches_the_old_process_does_not_mark_the_new_one_unready() {
    let config = format!("{ADMIN}restart: {{linger: 1}}");
    let mut service = Service::start(&config);
    let mut probe = Client::connect(service.proxy().metrics_address());
    assert_eq!(probe.get("/readyz").0.status, 200);
    // This request keeps the old process from ending.
    let mut slow = service.proxy().connect();
    slow.ask("/slow?seconds=3600");
    slow.response_head();
    service.restart();
    // Waits for the step after `main`, which ends after the runner has set the readiness. A second request may not be
    // possible over this connection, since the old process asks its clients to connect again.
    service.line("step_end", 2);
    let (response, state) = probe.get("/readyz");
    assert_eq!(state, b"draining\n");
    assert_eq!(response.status, 200, "{}", response.head);
    drop(slow);
    service.line("all complete", 1);
    assert_eq!(service.end().code(), 0);
}

#[test]
fn after_a_failed_start_the_old_process_goes_on_and_starts_the_next_program() {
    let mut service = Service::start("");
    let address = service.proxy().address();
    let requests = Crowd::of(1, move || visit(address, "/"));
    service.replace_program("exit 7");
    service.signal(Signal::USR2);
    let failure = service.line(FAILED, 1)["failure"].to_string();
    assert!(failure.contains("exit status: 7"), "{failure}");
    std::fs::remove_file(&service.program).unwrap();
    service.signal(Signal::USR2);
    let failure = service.line(FAILED, 2)["failure"].to_string();
    assert!(failure.contains("could not be started"), "{failure}");
    std::fs::write(&service.program, "").unwrap();

    service.restore_program();
    service.restart();
    requests.leave();
    assert_eq!(service.end().code(), 0);
}

#[test]
fn with_an_invalid_configuration_the_old_process_goes_on() {
    let mut service = Service::start("");
    let file = service.proxy().file("proxy.yaml");
    std::fs::write(&file, "shutdown_timeot: 3").unwrap();
    service.signal(Signal::USR2);
    let failure = service.line(FAILED, 1)["failure"].to_string();
    assert!(failure.contains("exit status: 1"), "{failure}");
    assert!(service.log().text().contains("shutdown_timeot"));
    visit(service.proxy().address(), "/");

    // The next process must use the repaired configuration.
    std::fs::write(&file, "max_connections: 3").unwrap();
    service.restart();
    let line = service.line("connection limit set", 1);
    assert_eq!(line["max_connections"], 3);
    assert_eq!(service.end().code(), 0);
}

#[test]
fn a_new_process_that_is_never_ready_is_ended_and_meanwhile_restarts_are_refused() {
    let service = Service::start("restart: {ready_within: 1}");
    // The script does not become ready, and ignores SIGTERM.
    service.replace_program("trap '' TERM; while :; do sleep 0.1; done");
    service.signal(Signal::USR2);
    let child = pid_of(&service.line(STARTED, 1));
    service.signal(Signal::USR2);
    service.line("restart refused: one is under way", 1);
    let failure = service.line(FAILED, 1)["failure"].to_string();
    assert!(failure.contains("not ready within 1 s"), "{failure}");
    assert!(is_gone(child), "it was not reaped");
    visit(service.proxy().address(), "/");
    assert_eq!(service.log().all(STARTED).len(), 1);
    assert_eq!(service.end().code(), 0);
}

#[test]
fn sigterm_during_a_restart_ends_the_new_process_and_then_the_old_one_in_order() {
    let service = Service::start("");
    let mut slow = service.proxy().connect();
    slow.ask("/slow?seconds=1");
    let head = slow.response_head();
    service.replace_program("exec sleep 1000");
    service.signal(Signal::USR2);
    let child = pid_of(&service.line(STARTED, 1));
    service.signal(Signal::TERM);
    let failure = service.line(FAILED, 1)["failure"].to_string();
    assert!(failure.contains("the shutdown was requested"), "{failure}");
    assert!(is_gone(child), "it was not reaped");
    assert!(slow.body(&head.head).ends_with(b"tick 10 of 10\n"));
    let ended = service.wait();
    assert_eq!(ended.code(), 0, "{}", ended.log.text());
    assert!(ended.report().contains("SIGTERM"), "{}", ended.report());
}

#[test]
fn both_processes_write_one_tape_and_the_numbers_are_those_of_the_last() {
    let config = "recorder: {path: tape, max_bytes: 1000, keep: 1000}\nmetrics: {file: numbers}";
    let mut service = Service::start(config);
    let mut slow = service.proxy().connect();
    slow.ask("/slow?seconds=1");
    let head = slow.response_head();
    for _ in 0..20 {
        visit_once(service.proxy().address());
    }
    service.restart();
    service.line("no longer listening", 1);
    for _ in 0..20 {
        visit_once(service.proxy().address());
    }
    slow.body(&head.head);
    drop(slow);
    service.line("all complete", 1);
    visit_once(service.proxy().address());
    let ended = service.end();
    assert_eq!(ended.code(), 0, "{}", ended.log.text());

    let mut lines = Vec::new();
    for entry in std::fs::read_dir(ended.directory.path()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if name == "tape" || name.starts_with("tape.") {
            let text = std::fs::read_to_string(&path).unwrap();
            assert!(text.len() <= 1000, "{name} has {} bytes", text.len());
            lines.extend(text.lines().map(str::to_owned));
        }
    }
    let entry = |line: &String| serde_json::from_str::<Value>(line).unwrap();
    assert!(lines.iter().map(entry).all(|entry| entry["status"] == 200));
    assert_eq!(lines.len(), 42);
    let numbers = std::fs::read_to_string(ended.directory.path().join("numbers")).unwrap();
    let numbers: Value = serde_json::from_str(&numbers).unwrap();
    assert_eq!(numbers["requests"], 21);
}

fn visit_once(address: SocketAddr) {
    assert_eq!(Client::connect(address).get("/").0.status, 200);
}

#[test]
fn announcements_and_state_pass_to_the_new_process_without_a_goodbye() {
    let (peer, registry) = (Peer::start(), Registry::start(|_| (200, "{}")));
    let link = Link::start();
    let mut service = Service::start(&format!(
        "state: {{file: state.json, every: 3600}}\n\
         discovery:\n  mdns: {{port: {}}}\n  peers: {{listen: 127.0.0.1:0, tell: [{}]}}\n  \
         consul: {{url: http://{}}}\n",
        link.port, peer.address, registry.address
    ));
    let (_, from) = peer.next("hello");
    peer.send("hello", &json!("a"), from);
    peer.next("ack");
    registry.find("PUT /v1/agent/service/register");
    service.line("announced by multicast DNS", 1);

    service.restart();
    service.line("all complete", 1);
    service.line("announced by multicast DNS", 2);
    assert_eq!(service.line("state restored", 1)["peers"], 1);
    service.line("the state file belongs to the new process: not saved", 1);
    // The first process has changed the file since its start.
    let saved = std::fs::read(service.proxy().file("state.json")).unwrap();
    let saved: Value = serde_json::from_slice(&saved).unwrap();
    assert_eq!(saved["state"]["peers"][0]["id"], "other");
    assert!(!peer.rest().contains(&json!("goodbye")));
    assert!(link.rest().iter().all(|said| said.ttl > 0));
    peer.send("hello", &json!("b"), from);
    assert_eq!(peer.next("ack").0["nonce"], "b");
    let deregistered = "PUT /v1/agent/service/deregister";
    assert!(registry.all(deregistered).is_empty());

    service.signal(Signal::TERM);
    let mut said = std::iter::repeat_with(|| link.next());
    said.find(|said| said.ttl == 0).unwrap();
    registry.find(deregistered);
    let (goodbye, sender) = peer.next("goodbye");
    assert_eq!(sender, from);
    peer.send("ack", &goodbye["nonce"], from);
    let ended = service.wait();
    assert_eq!(ended.code(), 0, "{}", ended.log.text());
    assert_eq!(ended.log.all("announcement withdrawn").len(), 1);
    assert_eq!(ended.log.all("state saved").len(), 1);
}

/// A stand-in for a service manager, which receives the notifications.
struct Manager {
    socket: UnixDatagram,
    directory: TempDir,
}

impl Manager {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(directory.path().join("notify")).unwrap();
        socket.set_read_timeout(Some(support::PATIENCE)).unwrap();
        Self { socket, directory }
    }

    /// Starts the proxy as a service manager does, with a watchdog interval of 200 ms.
    fn start(&self, config: &str) -> Service {
        Service::start_with(config, |command| {
            // The shell sets its own process id, which the proxy keeps when the shell becomes the
            // proxy.
            let mut shell = becoming("export WATCHDOG_PID=$$", command);
            shell
                .env("NOTIFY_SOCKET", self.directory.path().join("notify"))
                .env("WATCHDOG_USEC", "200000");
            shell
        })
    }

    /// Reads notifications until a line begins with `start`. Returns all lines that were read.
    #[track_caller]
    fn until(&self, start: &str) -> Vec<String> {
        let mut lines: Vec<String> = Vec::new();
        while !lines.iter().any(|line| line.starts_with(start)) {
            let mut bytes = [0; 4096];
            let length = self.socket.recv(&mut bytes);
            let length = length.unwrap_or_else(|error| panic!("no {start}: {error}: {lines:?}"));
            let text = std::str::from_utf8(&bytes[..length]).unwrap();
            lines.extend(text.lines().map(str::to_owned));
        }
        lines
    }
}

/// Returns a shell that runs `first`, then becomes the command. It is bash, since dash cannot redirect descriptors above 9.
fn becoming(first: &str, command: Command) -> Command {
    let mut shell = Command::new("bash");
    shell
        .arg("-c")
        .arg(format!("{first}; exec \"$0\" \"$@\""))
        .arg(command.get_program())
        .args(command.get_args());
    shell
}

#[test]
fn the_manager_is_notified_of_start_watchdog_and_shutdown_progress() {
    let manager = Manager::new();
    let service = manager.start("");
    assert_eq!(manager.until("READY=1").last().unwrap(), "STATUS=serving");
    for _ in 0..3 {
        manager.until("WATCHDOG=1");
    }
    let mut slow = service.proxy().connect();
    slow.ask("/slow?seconds=4");
    let head = slow.response_head();
    service.signal(Signal::TERM);
    let before = manager.until("STOPPING=1");
    assert!(!before.iter().any(|line| line.starts_with("EXTEND")));
    manager.until("EXTEND_TIMEOUT_USEC=5000000");
    manager.until("STATUS=draining: 1 connection, in step connections");
    // The notifications must continue although no step begins or ends.
    for _ in 0..3 {
        manager.until("WATCHDOG=1");
        manager.until("EXTEND_TIMEOUT_USEC=5000000");
    }
    slow.body(&head.head);
    assert_eq!(service.wait().code(), 0);
}

#[test]
fn the_manager_is_notified_of_the_new_process_but_not_of_the_old_ones_end() {
    let manager = Manager::new();
    let mut service = manager.start("");
    manager.until("READY=1");
    service.restart();
    let pid = service.current.as_raw_nonzero();
    let told = manager.until(&format!("MAINPID={pid}"));
    service.line("all complete", 1);
    // Only the new process is left, so it must send the watchdog pings.
    for _ in 0..5 {
        let lines = manager.until("WATCHDOG=1");
        assert!(!lines.iter().any(|line| line == "STOPPING=1"), "{lines:?}");
    }
    assert!(told.iter().all(|line| line != "STOPPING=1"), "{told:?}");
    service.signal(Signal::TERM);
    manager.until("STOPPING=1");
    assert_eq!(service.end().code(), 0);
}

#[test]
fn a_variable_that_names_another_process_is_ignored() {
    // The standard input is a socket pair, but its other end does not belong to the process that
    // the environment names.
    let (input, other) = UnixStream::pair().unwrap();
    drop(other);
    rustix::io::fcntl_setfd(&input, rustix::io::FdFlags::empty()).unwrap();
    let number = input.as_raw_fd();
    let service = Service::start_with("", |command| {
        let mut shell = becoming(&format!("exec <&{number}"), command);
        shell.env("PROXY_PREDECESSOR", "1");
        shell
    });
    visit_once(service.proxy().address());
    assert!(service.log().all("taking over").is_empty());
    assert_eq!(service.end().code(), 0);
}

/// Returns a command that starts `command` with the sockets, as a service manager does.
fn activated(sockets: &[&TcpListener], names: &str, command: Command) -> Command {
    let mut first = String::new();
    for (place, socket) in sockets.iter().enumerate() {
        rustix::io::fcntl_setfd(socket, rustix::io::FdFlags::empty()).unwrap();
        first += &format!("exec {}<&{}; ", place + 3, socket.as_raw_fd());
    }
    let count = sockets.len();
    first += &format!("export LISTEN_PID=$$ LISTEN_FDS={count} LISTEN_FDNAMES={names}");
    becoming(&first, command)
}

#[test]
fn sockets_of_the_service_manager_replace_configured_addresses_even_after_a_restart() {
    let any = || TcpListener::bind("127.0.0.1:0").unwrap();
    let sockets = [any(), any(), any()];
    let [tls, admin, http] = sockets
        .each_ref()
        .map(|socket| socket.local_addr().unwrap());
    let config = "tls: {allow: [{name: a}]}";
    let mut service = Service::start_with(config, |command| {
        activated(&sockets.each_ref(), "tls:admin:http", command)
    });
    drop(sockets);
    for restarts in 0..2 {
        assert_eq!(
            service.line("listening", restarts + 1)["address"],
            http.to_string()
        );
        let line = service.line("listening for TLS", restarts + 1);
        assert_eq!(line["address"], tls.to_string());
        visit_once(http);
        visit(admin, "/readyz");
        service.restart();
        service.line("all complete", restarts + 1);
    }
    assert_eq!(service.end().code(), 0);
}

#[test]
fn a_socket_of_the_service_manager_without_a_use_is_refused_by_its_name() {
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let directory = tempfile::tempdir().unwrap();
    let program = Path::new(env!("CARGO_BIN_EXE_proxy"));
    let plain = command(program, &directory, "");
    let ended = Proxy::launch(activated(&[&socket], "htpt", plain), directory).wait();
    assert_eq!(ended.code(), 1);
    let text = ended.log.text();
    assert!(
        text.contains("`htpt`") && text.contains("FileDescriptorName="),
        "{text}"
    );
}
