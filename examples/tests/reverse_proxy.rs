//! The reverse proxy forwards requests and shuts down in order: every client is answered, then every
//! exchange is on disk, then the upstream connections are closed.

#![cfg(unix)]

mod support;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};
use support::{example, wait};

#[test]
fn a_request_in_flight_is_answered_and_recorded_before_the_upstream_connections_are_closed() {
    let record = Scratch::new("in-flight");
    let mut upstream = Upstream::start(&record.0);
    let mut proxy = Proxy::start(upstream.address, &record.0);

    let mut client = proxy.connect();
    client.ask(
        "/one",
        "X-Kept: yes\r\nX-Gone: yes\r\nConnection: x-gone, close\r\n",
    );
    upstream.answer("first");
    assert!(client.response().ends_with("\r\n\r\nfirst"));
    let head = upstream.heads.recv().unwrap().to_ascii_lowercase();
    for kept in [
        "get /one http/1.1\r\n",
        "host: somewhere\r\n",
        "x-kept: yes\r\n",
        "via: 1.1 ",
    ] {
        assert!(head.contains(kept), "no {kept:?} in {head}");
    }
    assert!(!head.contains("x-gone"), "{head}");

    let (mut held, mut silent) = (proxy.connect(), proxy.connect());
    held.ask("/held", "");
    upstream.heads.recv().unwrap();
    proxy.terminate();
    // The drain closes a connection without a request, which shows that all connections were told.
    assert_eq!(silent.response(), "");
    upstream.answer("the last one");
    let response = held.response().to_ascii_lowercase();
    assert!(response.starts_with("http/1.1 200 "), "{response}");
    assert!(response.contains("connection: close\r\n"), "{response}");
    assert!(response.ends_with("\r\n\r\nthe last one"), "{response}");

    let report = proxy.wait();
    assert!(
        report.contains("shutdown of ReverseProxy (SIGTERM): clean"),
        "{report}"
    );
    let rows = report.lines().map(|line| line.split_whitespace());
    let steps: Vec<_> = rows
        .filter_map(|mut row| Some((row.next()?, row.next()?)))
        .collect();
    let order = ["http", "recorder", "pool", "pooled"].map(|step| (step, "done"));
    assert!(steps.windows(4).any(|found| found == order), "{report}");
    let expected = "GET /one 200 5\nGET /held 200 12\n";
    assert_eq!(record.text(), expected);
    let at_the_end = upstream.records.recv().unwrap();
    assert_eq!(at_the_end, expected, "the upstream was hung up on before");
}

#[test]
fn a_request_that_no_upstream_answers_is_a_502_and_recorded() {
    let record = Scratch::new("nobody");
    // Nobody listens on port 1. A port that was free a moment ago may be another test's by now.
    let nobody = SocketAddr::from(([127, 0, 0, 1], 1));
    let mut proxy = Proxy::start(nobody, &record.0);
    let mut client = proxy.connect();
    client.ask("/x", "Connection: close\r\n");
    let response = client.response();
    assert!(response.starts_with("HTTP/1.1 502 "), "{response}");
    proxy.terminate();
    let report = proxy.wait();
    assert!(report.contains("(SIGTERM): clean"), "{report}");
    assert_eq!(record.text(), "GET /x 502 29\n");
}

/// The path of a file, which is removed when the value is dropped at the end of the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let name = format!("reverse-proxy-{name}-{}.log", std::process::id());
        Self(std::env::temp_dir().join(name))
    }

    fn text(&self) -> String {
        std::fs::read_to_string(&self.0).unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// An upstream that answers a request when the test sends it the answer.
struct Upstream {
    address: SocketAddr,
    heads: Receiver<String>,
    answers: Sender<&'static str>,
    /// A receiver of the record's contents at the time when the proxy closed its connection to the
    /// upstream.
    records: Receiver<String>,
}

impl Upstream {
    /// Starts an upstream that accepts a single connection. The proxy must reuse it for all
    /// requests.
    fn start(record: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (head, heads) = channel();
        let (answers, told) = channel::<&str>();
        let (end, records) = channel();
        let record = record.to_owned();
        thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let mut stream = BufReader::new(stream);
            while let Some(text) = read_head(&mut stream) {
                head.send(text).unwrap();
                let Ok(body) = told.recv() else { return };
                let length = body.len();
                let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}");
                stream.get_mut().write_all(answer.as_bytes()).unwrap();
            }
            let _ = end.send(std::fs::read_to_string(record).unwrap());
        });
        Self {
            address,
            heads,
            answers,
            records,
        }
    }

    fn answer(&mut self, body: &'static str) {
        self.answers.send(body).unwrap();
    }
}

fn read_head(from: &mut BufReader<TcpStream>) -> Option<String> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if from.read_line(&mut head).unwrap() == 0 {
            assert_eq!(head, "", "hung up in a head");
            return None;
        }
    }
    Some(head)
}

/// The running example, as a child process.
struct Proxy {
    child: Child,
    stdout: BufReader<ChildStdout>,
    address: SocketAddr,
}

impl Proxy {
    fn start(upstream: SocketAddr, record: &Path) -> Self {
        let mut child = Command::new(example("reverse_proxy"))
            .args(["127.0.0.1:0", &upstream.to_string()])
            .arg(record)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the example starts");
        let mut stdout = BufReader::new(child.stdout.take().expect("stdout is piped"));
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let address = line
            .trim()
            .strip_prefix("listening on ")
            .unwrap()
            .parse()
            .unwrap();
        Self {
            child,
            stdout,
            address,
        }
    }

    fn connect(&self) -> Client {
        Client(TcpStream::connect(self.address).unwrap())
    }

    fn terminate(&self) {
        let pid = Pid::from_raw(self.child.id().try_into().unwrap()).unwrap();
        kill_process(pid, Signal::TERM).unwrap();
    }

    /// Waits until the proxy has exited with success. Returns its output.
    fn wait(&mut self) -> String {
        let mut text = String::new();
        self.stdout.read_to_string(&mut text).unwrap();
        let status = wait(&mut self.child, "reverse_proxy");
        assert!(status.success(), "it ended with {status}\n{text}");
        text
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // Killing fails if the proxy has ended already, as it has unless the test has failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Client(TcpStream);

impl Client {
    fn ask(&mut self, path: &str, fields: &str) {
        let head = format!("GET {path} HTTP/1.1\r\nHost: somewhere\r\n{fields}\r\n");
        self.0.write_all(head.as_bytes()).unwrap();
    }

    /// Reads the response until the proxy closes the connection.
    fn response(&mut self) -> String {
        let mut text = String::new();
        self.0.read_to_string(&mut text).unwrap();
        text
    }
}
