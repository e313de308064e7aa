//! A slow collector gets every span, metric and log record, also those of the server's drop. The spans of the shutdown
//! are one trace.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message;

/// A collector for OpenTelemetry that takes some time for each answer, and keeps the requests.
struct Collector {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
}

#[derive(Clone)]
struct Request {
    path: String,
    body: Vec<u8>,
}

impl Collector {
    fn start(takes: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let requests = Arc::<Mutex<Vec<Request>>>::default();
        let received = Arc::clone(&requests);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let received = Arc::clone(&received);
                thread::spawn(move || serve(&stream, takes, &received));
            }
        });
        Self { address, requests }
    }
}

/// Answers the requests of one connection, each after the time `takes`. A request is kept only after that time.
fn serve(stream: &TcpStream, takes: Duration, received: &Mutex<Vec<Request>>) {
    let mut reader = BufReader::new(stream);
    loop {
        let (mut path, mut length) = (String::new(), 0);
        loop {
            let mut line = String::new();
            match reader.read_line(&mut line) {
                Ok(read) if read > 0 => {}
                _ => return,
            }
            let line = line.trim().to_ascii_lowercase();
            if let Some(target) = line.strip_prefix("post ") {
                path = target.split(' ').next().expect("a path").to_owned();
            }
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
        let request = Request { path, body };
        received.lock().expect("no panic").push(request);
        let mut stream = stream;
        if stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
            .is_err()
        {
            return;
        }
    }
}

/// Starts a server, sends it the signal to stop, and returns the requests that the collector got and the server's exit
/// code.
fn requests_of(program: &str, arguments: &[&str]) -> (Vec<Request>, Option<i32>) {
    let collector = Collector::start(Duration::from_millis(2_500));
    let mut server = Command::new(program)
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
    let requests = collector.requests.lock().expect("no panic").clone();
    (requests, code)
}

/// Returns the messages in the requests that were sent to `path`.
fn messages<M: Message + Default>(requests: &[Request], path: &str) -> Vec<M> {
    let requests = requests.iter().filter(|request| request.path == path);
    requests
        .map(|request| M::decode(&*request.body).expect("a message"))
        .collect()
}

const TRACED: &str = env!("CARGO_BIN_EXE_traced");
const METERED: &str = env!("CARGO_BIN_EXE_metered");

/// Returns all spans in `requests`, by name.
fn spans(requests: &[Request]) -> BTreeMap<String, Span> {
    let messages = messages::<ExportTraceServiceRequest>(requests, "/v1/traces");
    messages
        .into_iter()
        .flat_map(|message| message.resource_spans)
        .flat_map(|resource| resource.scope_spans)
        .flat_map(|scope| scope.spans)
        .map(|span| (span.name.clone(), span))
        .collect()
}

/// Returns the names of all metrics in `requests`.
fn metrics(requests: &[Request]) -> Vec<String> {
    let messages = messages::<ExportMetricsServiceRequest>(requests, "/v1/metrics");
    messages
        .into_iter()
        .flat_map(|message| message.resource_metrics)
        .flat_map(|resource| resource.scope_metrics)
        .flat_map(|scope| scope.metrics)
        .map(|metric| metric.name)
        .collect()
}

/// Returns the texts of all log records in `requests`.
fn records(requests: &[Request]) -> Vec<String> {
    let messages = messages::<ExportLogsServiceRequest>(requests, "/v1/logs");
    messages
        .into_iter()
        .flat_map(|message| message.resource_logs)
        .flat_map(|resource| resource.scope_logs)
        .flat_map(|scope| scope.log_records)
        .filter_map(|record| match record.body?.value? {
            Value::StringValue(text) => Some(text),
            _ => None,
        })
        .collect()
}

#[test]
fn no_span_is_lost_to_a_collector_that_takes_2_5_s() {
    let (requests, code) = requests_of(TRACED, &[]);
    assert_eq!(code, Some(0));
    let spans = spans(&requests);
    for name in ["shutdown", "step", "flush the journal", "drop the journal"] {
        assert!(
            spans.contains_key(name),
            "no span `{name}`: {:?}",
            spans.keys()
        );
    }
    // The spans of the shutdown are in one trace, and the span of the journal's flush is inside the span of its step.
    let (shutdown, flush) = (&spans["shutdown"], &spans["flush the journal"]);
    assert_eq!(flush.trace_id, shutdown.trace_id);
    assert_ne!(
        flush.parent_span_id, shutdown.span_id,
        "the step is between them"
    );
    assert!(!flush.parent_span_id.is_empty());
}

#[test]
fn without_the_cleanup_spans_are_lost() {
    let (requests, _) = requests_of(TRACED, &["forgotten"]);
    let spans = spans(&requests);
    assert!(
        !spans.contains_key("drop the journal"),
        "{:?}",
        spans.keys()
    );
}

#[test]
fn no_metric_and_no_record_is_lost_to_a_collector_that_takes_2_5_s() {
    let (requests, code) = requests_of(METERED, &[]);
    assert_eq!(code, Some(0));
    assert!(metrics(&requests).contains(&"flushed".to_owned()));
    let records = records(&requests);
    assert!(
        records.contains(&"the journal is dropped".to_owned()),
        "{records:?}"
    );
}

#[test]
fn without_the_cleanup_metrics_and_records_are_lost() {
    let (requests, _) = requests_of(METERED, &["forgotten"]);
    assert_eq!(metrics(&requests), [""; 0]);
    let records = records(&requests);
    assert!(
        !records.contains(&"the journal is dropped".to_owned()),
        "{records:?}"
    );
}
