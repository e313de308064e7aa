//! Starts nginx and haproxy as plain reverse proxies, and nginx as the upstream of all contestants.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::Result;

/// The names of the files that wrk requests, and their lengths in bytes.
pub(crate) const BODIES: [(&str, usize); 2] = [("small", 100), ("large", 100_000)];

/// The programs that the benchmarks start, each with its Debian package.
const PROGRAMS: [(&str, &str); 3] = [
    ("nginx", "nginx-light"),
    ("haproxy", "haproxy"),
    ("wrk", "wrk"),
];

/// Installs the programs of [`PROGRAMS`] that are missing. The installation needs root.
pub(crate) fn install() -> Result<()> {
    let missing = PROGRAMS.iter().filter(|(program, _)| !is_there(program));
    let packages: Vec<_> = missing.map(|(_, package)| *package).collect();
    if packages.is_empty() {
        return Ok(());
    }
    let script = format!(
        "apt-get update -qq && apt-get install -y -qq {}",
        packages.join(" ")
    );
    let installed = Command::new("sh").args(["-c", &script]).status()?;
    if !installed.success() {
        return Err(format!("this needs {}", packages.join(", ")).into());
    }
    Ok(())
}

fn is_there(program: &str) -> bool {
    let asked = Command::new(program)
        .arg("-v")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    asked.is_ok()
}

/// Returns a command that runs nginx, after it has written nginx's configuration. nginx logs errors to stderr, since
/// its default log is a system-wide file.
fn nginx(directory: &Path, name: &str, config: &str) -> Result<Command> {
    let file = directory.join(name);
    let temporary = directory.display();
    let paths = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {temporary}/{name}.{kind};\n"))
        .concat();
    std::fs::write(
        &file,
        format!(
            "daemon off; pid {temporary}/{name}.pid; error_log stderr crit;\n\
             {config}\n\
             events {{ worker_connections 4096; }}\n\
             http {{\n\
             access_log off; keepalive_requests 1000000000; keepalive_timeout 3600s;\n\
             sendfile on; tcp_nodelay on;\n{paths}\
             include {temporary}/{name}.http;\n}}\n"
        ),
    )?;
    let mut command = Command::new("nginx");
    command.args(["-e", "stderr", "-c"]).arg(file);
    Ok(command)
}

/// Returns the command of nginx as an upstream that serves files. One worker process is enough for its load.
pub(crate) fn upstream(directory: &Path, listen: SocketAddr) -> Result<Command> {
    for (name, length) in BODIES {
        std::fs::write(directory.join(name), "x".repeat(length))?;
    }
    let http = format!(
        "open_file_cache max=16;\nserver {{ listen {listen} backlog=4096; root {}; }}\n",
        directory.display()
    );
    std::fs::write(directory.join("upstream.http"), http)?;
    nginx(directory, "upstream", "master_process off;")
}

pub(crate) fn nginx_proxy(
    directory: &Path,
    listen: SocketAddr,
    upstream: SocketAddr,
    threads: usize,
) -> Result<Command> {
    let http = format!(
        "upstream behind {{ server {upstream}; keepalive 256; keepalive_requests 1000000000; }}\n\
         server {{ listen {listen} backlog=4096; location / {{\n\
         proxy_pass http://behind; proxy_http_version 1.1;\n\
         proxy_set_header Host $http_host; proxy_set_header Connection \"\";\n\
         proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;\n\
         proxy_buffers 32 8k; proxy_max_temp_file_size 0;\n\
         }} }}\n"
    );
    std::fs::write(directory.join("nginx.http"), http)?;
    nginx(directory, "nginx", &format!("worker_processes {threads};"))
}

pub(crate) fn haproxy(
    directory: &Path,
    listen: SocketAddr,
    upstream: SocketAddr,
    threads: usize,
) -> Result<Command> {
    let file = directory.join("haproxy");
    std::fs::write(
        &file,
        format!(
            "global\n  nbthread {threads}\n  maxconn 4096\n\
             defaults\n  mode http\n  timeout connect 10s\n  timeout client 60s\n  timeout server 60s\n\
             \x20 option forwardfor\n  http-reuse always\n\
             frontend clients\n  bind {listen} backlog 4096\n  default_backend behind\n\
             backend behind\n  server one {upstream}\n"
        ),
    )?;
    let mut command = Command::new("haproxy");
    command.arg("-db").arg("-f").arg(file);
    Ok(command)
}
