//! A fuzz test of requests. Whatever bytes a client sends, the upstream gets at most one
//! well-formed request on a connection, with the proxy's `Via`.

mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use support::{PATIENCE, Proxy};

/// The number of requests that are sent at the same time. They are one case of the test runner.
const AT_ONCE: usize = 20;

/// The total number of requests, unless the environment variable `LIFECYCLE_FUZZ_CASES` sets it.
const CASES: usize = 2_000;

/// The bytes that the upstream has read from one connection.
#[derive(Debug)]
struct Seen {
    head: Vec<u8>,
    /// The bytes that came after the request.
    rest: Vec<u8>,
}

/// Starts an upstream that reads one request strictly, answers it, and then reads the remaining
/// bytes of the connection.
fn listen() -> (SocketAddr, Receiver<Seen>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (tell, seen) = channel();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let tell = tell.clone();
            std::thread::spawn(move || {
                let mut bytes = Vec::new();
                let whole = read_request(&mut stream, &mut bytes).is_some();
                let end = end_of_head(&bytes).unwrap_or(bytes.len());
                let head = bytes[..end].to_vec();
                let mut rest = Vec::new();
                if whole {
                    let answer =
                        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok";
                    let _ = stream.write_all(answer.as_bytes());
                    let _ = stream.read_to_end(&mut rest);
                }
                // Ignores an error, since the test may have ended.
                let _ = tell.send(Seen { head, rest });
            });
        }
    });
    (address, seen)
}

fn end_of_head(bytes: &[u8]) -> Option<usize> {
    let at = bytes.windows(4).position(|four| four == b"\r\n\r\n")?;
    Some(at + 4)
}

/// Reads exactly one request, byte by byte, so that the bytes after it stay in the socket.
fn read_request(stream: &mut TcpStream, bytes: &mut Vec<u8>) -> Option<()> {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    while end_of_head(bytes).is_none() {
        bytes.push(byte(stream)?);
    }
    let head = String::from_utf8_lossy(bytes).to_lowercase();
    let field = |name: &str| {
        let mut lines = head.lines();
        lines.find_map(|line| Some(line.strip_prefix(name)?.trim().to_owned()))
    };
    if field("transfer-encoding:").is_some() {
        loop {
            let size = usize::from_str_radix(line(stream)?.trim(), 16).ok()?;
            if size == 0 {
                // Reads the trailers, and the empty line that ends them.
                while line(stream)? != "\r\n" {}
                return Some(());
            }
            for _ in 0..size + 2 {
                byte(stream)?;
            }
        }
    }
    let length = field("content-length:").map_or(Some(0), |length| length.parse().ok())?;
    for _ in 0..length {
        byte(stream)?;
    }
    Some(())
}

fn line(stream: &mut TcpStream) -> Option<String> {
    let mut line = String::new();
    while !line.ends_with("\r\n") {
        line.push(char::from(byte(stream)?));
    }
    Some(line)
}

fn byte(stream: &mut TcpStream) -> Option<u8> {
    let mut byte = [0];
    stream.read_exact(&mut byte).ok()?;
    Some(byte[0])
}

/// Sends bytes to the proxy. Returns when the proxy has closed the connection.
fn send(proxy: SocketAddr, bytes: &[u8]) {
    let mut stream = TcpStream::connect(proxy).unwrap();
    // Ignores an error, since the proxy may have closed the connection already.
    let _ = stream.write_all(bytes);
    // Waits for the answer before it closes the connection, since the proxy gives up the requests
    // of closed connections.
    stream
        .set_read_timeout(Some(Duration::from_millis(50)))
        .unwrap();
    let mut scrap = [0; 4096];
    while stream.read(&mut scrap).is_ok_and(|length| length > 0) {}
    let _ = stream.shutdown(std::net::Shutdown::Write);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    while stream.read(&mut scrap).is_ok_and(|length| length > 0) {}
}

/// Returns the fault in the bytes that an upstream read. Returns `None` if there is no fault.
fn fault(seen: &Seen) -> Option<&'static str> {
    let Seen { head, rest } = seen;
    if !rest.is_empty() {
        return Some("there are bytes after it");
    }
    if head.is_empty() {
        return None; // The proxy opened the connection and did not need it.
    }
    if !head.ends_with(b"\r\n\r\n") {
        return Some("its head has no end");
    }
    // Reads the head like the most lenient parser, which takes any control character for a line
    // end.
    let text: String = head.iter().map(|byte| char::from(*byte)).collect();
    let lines: Vec<_> = text.split("\r\n").collect();
    if lines
        .iter()
        .any(|line| line.contains(['\r', '\n', '\0', '\x0b', '\x0c']))
    {
        return Some("a line holds another one");
    }
    let named = |name: &str| {
        let is = |line: &&&str| {
            let found = line.split(':').next().unwrap_or_default();
            found.trim().eq_ignore_ascii_case(name)
        };
        lines.iter().skip(1).filter(is).count()
    };
    if named("content-length") + named("transfer-encoding") > 1 {
        return Some("it has two lengths");
    }
    if named("host") != 1 {
        return Some("it has not one host");
    }
    if lines[0].split(' ').count() != 3 || !lines[0].ends_with(" HTTP/1.1") {
        return Some("its first line is none");
    }
    if lines.iter().any(|line| line.starts_with([' ', '\t'])) {
        return Some("a line is folded");
    }
    let signed = lines
        .iter()
        .any(|line| line.starts_with("via: ") && line.contains("lifecycle-proxy"));
    (!signed).then_some("the proxy has not signed it")
}

fn any_of(words: &'static [&'static str]) -> impl Strategy<Value = Vec<u8>> {
    proptest::sample::select(words).prop_map(|word| word.as_bytes().to_vec())
}

fn noise() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 0..4)
}

/// Generates a header field that matters for framing or routing. Most of the fields are
/// well-formed.
fn field() -> impl Strategy<Value = Vec<u8>> {
    let name = any_of(&[
        "Content-Length",
        "content-length",
        "Transfer-Encoding",
        "TRANSFER-ENCODING",
        "Transfer_Encoding",
        "Host",
        "Connection",
        "Upgrade",
        "TE",
        "Trailer",
        "Expect",
        "X-Forwarded-For",
        "Via",
        "X",
        "Keep-Alive",
        "Cookie",
    ]);
    let colon = prop_oneof![8 => any_of(&[": ", ":"]), 1 => any_of(&[" : ", ":\t", "", ":\x0b", "\t:", ":\r\n ", ": \r"])];
    let value = any_of(&[
        "0",
        "3",
        "5",
        "+3",
        "3, 3",
        "30",
        "99999999999999999999",
        "chunked",
        "Chunked",
        "gzip, chunked",
        "chunked, identity",
        "identity",
        "chunked\x0b",
        "a",
        "b:80",
        "a:x",
        "close",
        "keep-alive",
        "upgrade, content-length",
        "transfer-encoding",
        "host, via",
        "websocket",
        "trailers",
        "100-continue",
        "x\ny: z",
        "x\r\n\r\nGET /smuggled HTTP/1.1",
        "",
        " ",
    ]);
    let end = prop_oneof![12 => any_of(&["\r\n"]), 1 => any_of(&["\n", "\r", "\r\r\n", "\n\r\n", "\r\n\r\n"])];
    let spoiled = prop_oneof![10 => Just(Vec::new()), 1 => noise()];
    (name, colon, value, spoiled, end)
        .prop_map(|(name, colon, value, noise, end)| [name, colon, value, noise, end].concat())
}

/// Generates a request or a similar text, followed by more bytes.
fn request() -> impl Strategy<Value = Vec<u8>> {
    let line = (
        prop_oneof![6 => any_of(&["GET", "POST", "PUT"]), 1 => any_of(&["get", "OPTIONS", "CONNECT", "G T", "", "\r\nGET", "TRACE"])],
        prop_oneof![12 => any_of(&[" "]), 1 => any_of(&["  ", "\t", "\r", ""])],
        prop_oneof![6 => any_of(&["/", "/a?b", "http://a/"]), 1 => any_of(&["*", "/#x", "/a b", "//", "http://a@b/", "a", "/\x01", "/%0d%0a", "/\r\nX: y"])],
        prop_oneof![8 => any_of(&[" HTTP/1.1\r\n"]), 1 => any_of(&[" HTTP/1.0\r\n", " HTTP/1.1\n", "\r\n", " HTTP/2.0\r\n", " HTTP/1.1 \r\n", " HTTP/1.1\r"])],
    );
    let host = prop_oneof![10 => any_of(&["Host: a\r\n"]), 1 => any_of(&["", "Host: a\r\nHost: a\r\n", "Host : a\r\n"])];
    let end = prop_oneof![10 => any_of(&["\r\n"]), 1 => any_of(&["\n", "\r", ""])];
    let body = any_of(&[
        "",
        "abc",
        "0\r\n\r\n",
        "3\r\nabc\r\n0\r\n\r\n",
        "3\nabc\n0\n\n",
        "3;\nxx\r\nabc\r\n0\r\n\r\n",
        "0\r\nContent-Length: 30\r\n\r\n",
        "5\r\nabc\r\n0\r\n\r\n",
        "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n",
        "0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n",
        "3\r\nabc\r\n0\r\nX: y\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n",
        "fffffffffffffff3\r\nabc\r\n0\r\n\r\n",
    ]);
    let fields = proptest::collection::vec(field(), 0..5).prop_map(|fields| fields.concat());
    (line, host, fields, end, body, noise()).prop_map(
        |((method, space, target, version), host, fields, end, body, noise)| {
            [
                method, space, target, version, host, fields, end, body, noise,
            ]
            .concat()
        },
    )
}

#[test]
fn no_bytes_make_the_upstream_see_more_than_one_request() {
    let cases = std::env::var("LIFECYCLE_FUZZ_CASES").map_or(CASES, |text| text.parse().unwrap());
    let (upstream, seen) = listen();
    let proxy = Proxy::start(&format!(
        "upstream: http://{upstream}\nbreaker: {{failures: 1000000}}\ntimeouts: {{client_hello: 5, idle: 5, response: 5}}"
    ));
    let address = proxy.address();
    let config = Config {
        cases: u32::try_from(cases / AT_ONCE).unwrap(),
        failure_persistence: None,
        ..Config::default()
    };
    let passed = std::cell::Cell::new(0);
    let outcome = TestRunner::new(config).run(
        &proptest::collection::vec(request(), 1..=AT_ONCE * 2 - 1),
        |requests| {
            std::thread::scope(|scope| {
                for bytes in &requests {
                    scope.spawn(move || send(address, bytes));
                }
            });
            for seen in seen.try_iter() {
                if let Some(fault) = fault(&seen) {
                    let head = String::from_utf8_lossy(&seen.head).into_owned();
                    return Err(TestCaseError::fail(format!(
                        "{fault}: {head:?}, {:?}",
                        seen.rest
                    )));
                }
                passed.set(passed.get() + usize::from(!seen.head.is_empty()));
            }
            Ok(())
        },
    );
    if let Err(error) = outcome {
        panic!("{error}");
    }
    let passed = passed.get();
    // Checks that many requests were passed on, since requests that the proxy refuses prove
    // nothing.
    assert!(
        passed > cases / 20,
        "only {passed} of {cases} were passed on"
    );
    assert!(!proxy.log().text().contains("panicked"));
}

#[test]
fn the_fuzz_detects_a_smuggled_request() {
    let head = |lines: &str| {
        format!("GET / HTTP/1.1\r\nhost: a\r\nvia: 1.1 lifecycle-proxy\r\n{lines}\r\n")
    };
    let judge = |head: String, rest: &str| {
        let (head, rest) = (head.into_bytes(), rest.as_bytes().to_vec());
        fault(&Seen { head, rest })
    };
    assert_eq!(judge(head("x: y\r\n"), ""), None);
    for (lines, rest) in [
        ("content-length: 0\r\ntransfer-encoding: chunked\r\n", ""),
        ("content-length: 0\r\nContent-Length : 0\r\n", ""),
        ("x: y\nGET / HTTP/1.1\r\n", ""),
        ("x: y\rz: 1\r\n", ""),
        ("x: y\r\n z\r\n", ""),
        ("host: b\r\n", ""),
        ("", "GET /smuggled HTTP/1.1"),
    ] {
        assert!(judge(head(lines), rest).is_some(), "{lines:?} {rest:?}");
    }
    assert!(judge("GET / HTTP/1.1\r\nhost: a\r\n\r\n".into(), "").is_some());
}
