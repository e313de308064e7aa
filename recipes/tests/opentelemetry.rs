//! No span is lost to a slow collector, those of the last drops included; and the shutdown is one trace.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;

/// A collector that takes its time.
struct Collector {
    address: SocketAddr,
    spans: Arc<Mutex<Vec<Span>>>,
}

impl Collector {
    fn start(takes: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let spans = Arc::<Mutex<Vec<Span>>>::default();
        let received = Arc::clone(&spans);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let received = Arc::clone(&received);
                thread::spawn(move || serve(&stream, takes, &received));
            }
        });
        Self { address, spans }
    }

    fn spans(&self) -> Vec<Span> {
        self.spans.lock().expect("no panic").clone()
    }
}

/// Answers requests, each after some time; what was received counts once it is answered.
fn serve(stream: &TcpStream, takes: Duration, received: &Mutex<Vec<Span>>) {
    let mut reader = BufReader::new(stream);
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            match reader.read_line(&mut line) {
                Ok(read) if read > 0 => {}
                _ => return,
            }
            let line = line.trim().to_ascii_lowercase();
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().expect("a length");
            }
            if line.is_empty() {
                break;
            }
        }
        let mut body = vec![0; length];
        if reader.read_exact(&mut body).is_err() {
            return;
        }
        thread::sleep(takes);
        let request = ExportTraceServiceRequest::decode(&*body).expect("spans");
        let spans = request
            .resource_spans
            .into_iter()
            .flat_map(|resource| resource.scope_spans);
        received
            .lock()
            .expect("no panic")
            .extend(spans.flat_map(|scope| scope.spans));
        let mut stream = stream;
        if stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
            .is_err()
        {
            return;
        }
    }
}

/// The spans that arrive of a server that is told to stop, by name; and its exit code.
fn spans_of(arguments: &[&str]) -> (BTreeMap<String, Span>, Option<i32>) {
    let collector = Collector::start(Duration::from_millis(2_500));
    let mut server = Command::new(env!("CARGO_BIN_EXE_traced"))
        .arg(collector.address.to_string())
        .args(arguments)
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut lines = BufReader::new(server.stdout.take().expect("a pipe")).lines();
    assert_eq!(lines.next().expect("a line").expect("text"), "serving");
    let told = Command::new("kill")
        .arg(server.id().to_string())
        .status()
        .expect("kill runs");
    assert!(told.success());
    let code = server.wait().expect("it ends").code();
    let spans = collector
        .spans()
        .into_iter()
        .map(|span| (span.name.clone(), span));
    (spans.collect(), code)
}

#[test]
fn no_span_is_lost_to_a_collector_that_takes_2_5_s() {
    let (spans, code) = spans_of(&[]);
    assert_eq!(code, Some(0));
    for name in ["shutdown", "step", "flush the journal", "drop the journal"] {
        assert!(
            spans.contains_key(name),
            "no span `{name}`: {:?}",
            spans.keys()
        );
    }
    // The shutdown is one trace, and what a cleanup does is inside its step.
    let (shutdown, flush) = (&spans["shutdown"], &spans["flush the journal"]);
    assert_eq!(flush.trace_id, shutdown.trace_id);
    assert_ne!(
        flush.parent_span_id, shutdown.span_id,
        "the step is between them"
    );
    assert!(!flush.parent_span_id.is_empty());
}

#[test]
fn without_the_cleanup_they_are_lost() {
    let (spans, _) = spans_of(&["forgotten"]);
    assert!(
        !spans.contains_key("drop the journal"),
        "{:?}",
        spans.keys()
    );
}
