//! An HTTP/1.1 client on plain sockets, which sends exactly the bytes that a test passes.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Instant;

use super::PATIENCE;

/// A connection to a server.
pub struct Client {
    pub stream: TcpStream,
    reader: BufReader<TcpStream>,
}

/// The head of a response.
#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub head: String,
}

impl Response {
    /// Returns the value of a header field of the response.
    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }
}

/// Returns the value of the header field `name` in the text of a head.
pub fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().skip(1).find_map(|line| {
        let (found, value) = line.split_once(':')?;
        found.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

impl Client {
    #[track_caller]
    pub fn connect(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).unwrap())
    }

    /// Creates a client on an open connection.
    pub fn over(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        let reader = BufReader::new(stream.try_clone().unwrap());
        Self { stream, reader }
    }

    #[track_caller]
    pub fn send(&mut self, text: impl AsRef<[u8]>) {
        self.stream.write_all(text.as_ref()).unwrap();
    }

    /// Sends a GET request, without reading the answer.
    #[track_caller]
    pub fn ask(&mut self, path: &str) {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: test.example\r\n\r\n"));
    }

    /// Sends a GET request, and reads the whole answer.
    #[track_caller]
    pub fn get(&mut self, path: &str) -> (Response, Vec<u8>) {
        self.ask(path);
        self.response()
    }

    /// Reads a head, up to the empty line after it.
    #[track_caller]
    pub fn head(&mut self) -> String {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            let read = self.reader.read_line(&mut head).unwrap();
            assert!(read > 0, "the connection ended in a head: {head:?}");
        }
        head
    }

    /// Reads a head, up to the empty line after it. Returns `None` at the end of the connection.
    pub fn next_head(&mut self) -> Option<String> {
        let more = self.reader.fill_buf().is_ok_and(|bytes| !bytes.is_empty());
        more.then(|| self.head())
    }

    /// Sends a WebSocket frame as a client does: masked, with a mask of zeros.
    #[track_caller]
    pub fn send_frame(&mut self, first: u8, payload: &[u8]) {
        let length = u8::try_from(payload.len()).unwrap();
        let mut frame = vec![first, 0x80 | length, 0, 0, 0, 0];
        frame.extend(payload);
        self.send(frame);
    }

    /// Reads a short WebSocket frame. Returns its first byte and its payload, or `None` at the end
    /// of the connection.
    pub fn frame(&mut self) -> Option<(u8, Vec<u8>)> {
        let mut start = [0; 2];
        self.reader.read_exact(&mut start).ok()?;
        let mut length = usize::from(start[1] & 0x7f);
        if start[1] & 0x80 != 0 {
            length += 4;
        }
        let mut payload = vec![0; length];
        self.reader.read_exact(&mut payload).ok()?;
        if start[1] & 0x80 != 0 {
            payload.drain(..4);
        }
        Some((start[0], payload))
    }

    #[track_caller]
    pub fn response_head(&mut self) -> Response {
        let head = self.head();
        let status = head
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok());
        let status = status.unwrap_or_else(|| panic!("no status in {head:?}"));
        Response { status, head }
    }

    #[track_caller]
    pub fn response(&mut self) -> (Response, Vec<u8>) {
        let response = self.response_head();
        let body = self.body(&response.head);
        (response, body)
    }

    /// Reads the body whose length is in `head`.
    #[track_caller]
    pub fn body(&mut self, head: &str) -> Vec<u8> {
        let mut body = Vec::new();
        if let Some(length) = header(head, "content-length") {
            self.read_more(&mut body, length.parse().unwrap());
        } else if header(head, "transfer-encoding") == Some("chunked") {
            while let Some(chunk) = self.chunk() {
                body.extend(chunk);
            }
        }
        body
    }

    /// Reads a chunk. Returns `None` after the last chunk and the trailer section.
    #[track_caller]
    pub fn chunk(&mut self) -> Option<Vec<u8>> {
        let mut size = String::new();
        self.reader.read_line(&mut size).unwrap();
        let length = usize::from_str_radix(size.trim(), 16).unwrap_or_else(|_| panic!("{size:?}"));
        if length == 0 {
            self.trailers();
            return None;
        }
        let mut chunk = Vec::new();
        self.read_more(&mut chunk, length + 2);
        chunk.truncate(length);
        Some(chunk)
    }

    /// Reads chunks up to the next event of a stream, and skips comments before the event. Returns
    /// `None` at the end of the stream.
    #[track_caller]
    pub fn event(&mut self) -> Option<String> {
        let end = Instant::now() + PATIENCE;
        loop {
            let text = String::from_utf8(self.chunk()?).unwrap();
            if text != ":\n\n" {
                return Some(text);
            }
            assert!(Instant::now() < end, "no event within {PATIENCE:?}");
        }
    }

    fn trailers(&mut self) -> String {
        let mut section = String::new();
        while self.reader.read_line(&mut section).unwrap() > 2 {}
        section
    }

    /// Reads the remaining chunks of a body. Returns the trailer section.
    #[track_caller]
    pub fn chunks_and_trailers(&mut self) -> String {
        loop {
            let mut size = String::new();
            self.reader.read_line(&mut size).unwrap();
            match usize::from_str_radix(size.trim(), 16).unwrap() {
                0 => return self.trailers(),
                length => self.read_more(&mut Vec::new(), length + 2),
            }
        }
    }

    /// Reads exactly `length` bytes, and appends them to `into`.
    #[track_caller]
    pub fn read_more(&mut self, into: &mut Vec<u8>, length: usize) {
        let before = into.len();
        into.resize(before + length, 0);
        self.reader.read_exact(&mut into[before..]).unwrap();
    }

    /// Fills `into`. Returns false if the connection ended before it was full.
    pub fn read_exactly(&mut self, into: &mut [u8]) -> bool {
        self.reader.read_exact(into).is_ok()
    }

    /// Reads up to the end of the connection, and returns the bytes.
    #[track_caller]
    pub fn rest(&mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        match self.reader.read_to_end(&mut rest) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            Err(error) => panic!("the connection did not end: {error}"),
        }
        rest
    }
}
