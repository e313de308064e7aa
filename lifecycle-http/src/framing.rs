//! Finds where the requests of an HTTP/1.1 connection end, and where that end is ambiguous.

use std::io::BufRead as _;
use std::mem;

/// The number of bytes that are looked at in a `Content-Length`, `Transfer-Encoding` or chunk size line.
const LINE: usize = 128;

/// A search for HTTP/1.1 requests that two servers can read differently, in the bytes of a connection as they arrive.
///
/// If a request has a `Transfer-Encoding` and a `Content-Length`, hyper obeys the former, and removes the latter before
/// a service can see it. A proxy or balancer in front of hyper may have obeyed the length, and taken for one request
/// what hyper takes for two: request smuggling (RFC 9112 §6.1, §11.2). A server that reads the bytes itself passes them
/// through this search before hyper sees them, and refuses the requests from [`first_ambiguous`](Self::first_ambiguous)
/// on.
///
/// A request is ambiguous if it has a length beside a transfer coding, more than one length, or a length or chunk size
/// that cannot be read. It is also ambiguous if its target has a fragment, which hyper leaves out (RFC 9112 §3.2). The
/// search checks nothing else. It stops after the first ambiguous request, or when the connection turns out to be
/// HTTP/2.
///
/// ```
/// use lifecycle_http::RequestFraming;
///
/// let mut framing = RequestFraming::new();
/// framing.pass(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
/// assert_eq!(framing.first_ambiguous(), None);
/// framing.pass(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n");
/// assert_eq!(framing.first_ambiguous(), Some(1));
/// ```
#[derive(Debug)]
pub struct RequestFraming {
    state: State,
    /// The number of the request whose head is being read or comes next, counted from 0. While a body is read, this is the
    /// request after it.
    number: u64,
    ambiguous: Option<u64>,
    /// Whether the line is longer than the part of it that is kept in `line`.
    cut: bool,
    /// Whether the target in the request line has a fragment.
    fragment: bool,
    head: Head,
    /// The beginning of a line whose end has not arrived.
    line: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    RequestLine,
    Fields,
    Body(u64),
    ChunkSize,
    Chunk(u64),
    ChunkEnd,
    Trailers,
    Done,
}

/// The length of a request's body, as the request's head gives it.
#[derive(Clone, Copy, Debug, Default)]
struct Head {
    length: Option<u64>,
    coded: bool,
    unclear: bool,
}

impl Default for RequestFraming {
    fn default() -> Self {
        Self::new()
    }
}

impl RequestFraming {
    /// Creates a search that begins at the first byte of a connection.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            state: State::RequestLine,
            number: 0,
            ambiguous: None,
            head: Head {
                length: None,
                coded: false,
                unclear: false,
            },
            line: Vec::new(),
            cut: false,
            fragment: false,
        }
    }

    /// Returns the number of the first request that is ambiguous, counted from 0. Nothing is known of the requests
    /// after it. After a chunk size that cannot be read, it is the request after that body, since the head before the
    /// body was clear.
    #[must_use]
    pub const fn first_ambiguous(&self) -> Option<u64> {
        self.ambiguous
    }

    /// Searches the next bytes of the connection.
    pub fn pass(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            match self.state {
                State::Done => return,
                State::Body(left) => bytes = self.skip(bytes, left, State::Body),
                State::Chunk(left) => bytes = self.skip(bytes, left, State::Chunk),
                State::RequestLine if self.number > 0 && self.is_between() && is_plain(bytes) => {
                    self.number += 1;
                    return;
                }
                State::Fields if self.line.is_empty() => bytes = self.read_line(skip_fields(bytes)),
                _ => bytes = self.read_line(bytes),
            }
        }
    }

    /// Returns whether no part of the line that is being read has arrived.
    fn is_between(&self) -> bool {
        self.line.is_empty() && !self.cut && !self.fragment
    }

    fn skip<'a>(&mut self, bytes: &'a [u8], left: u64, state: fn(u64) -> State) -> &'a [u8] {
        let part = usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()));
        let left = left - part as u64;
        self.state = match (left, self.state) {
            (1.., _) => state(left),
            (0, State::Chunk(_)) => State::ChunkEnd,
            (0, _) => State::RequestLine,
        };
        &bytes[part..]
    }

    fn read_line<'a>(&mut self, bytes: &'a [u8]) -> &'a [u8] {
        let end = end_of_line(bytes);
        if self.state == State::RequestLine {
            self.fragment |= bytes[..end.unwrap_or(bytes.len())].contains(&b'#');
        }
        let Some(end) = end else {
            self.keep(bytes);
            return &[];
        };
        let (line, rest) = (&bytes[..end], &bytes[end + 1..]);
        if self.line.is_empty() && !self.cut {
            self.end_line(&line[..end.min(LINE)], end > LINE);
        } else {
            self.keep(line);
            let (kept, cut) = (mem::take(&mut self.line), mem::take(&mut self.cut));
            self.end_line(&kept, cut);
        }
        rest
    }

    fn keep(&mut self, bytes: &[u8]) {
        let part = bytes.len().min(LINE - self.line.len());
        self.line.extend_from_slice(&bytes[..part]);
        self.cut |= part < bytes.len();
    }

    fn end_line(&mut self, line: &[u8], cut: bool) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let empty = line.is_empty() && !cut;
        match self.state {
            State::RequestLine if empty => {}
            State::RequestLine if self.number == 0 && line == b"PRI * HTTP/2.0" => {
                self.state = State::Done;
            }
            State::RequestLine => {
                self.head = Head {
                    unclear: mem::take(&mut self.fragment),
                    ..Head::default()
                };
                self.state = State::Fields;
            }
            State::Fields if empty => self.end_head(),
            State::Fields => self.head.field(line, cut),
            State::ChunkSize => match chunk_size(line, cut) {
                Some(0) => self.state = State::Trailers,
                Some(size) => self.state = State::Chunk(size),
                None => self.refuse(),
            },
            State::ChunkEnd if empty => self.state = State::ChunkSize,
            State::ChunkEnd => self.refuse(),
            State::Trailers if empty => self.state = State::RequestLine,
            State::Trailers | State::Body(_) | State::Chunk(_) | State::Done => {}
        }
    }

    fn end_head(&mut self) {
        let Head {
            length,
            coded,
            unclear,
        } = self.head;
        if unclear || (coded && length.is_some()) {
            self.refuse();
            return;
        }
        self.number += 1;
        self.state = match length {
            _ if coded => State::ChunkSize,
            Some(length @ 1..) => State::Body(length),
            _ => State::RequestLine,
        };
    }

    fn refuse(&mut self) {
        self.ambiguous = Some(self.number);
        self.state = State::Done;
    }
}

/// Returns whether the bytes are a whole head without a body or a fragment, as those of most requests are. It may return
/// `false` for such a head, but never `true` for anything else.
///
/// It looks at all bytes at once and not at one line after the other, so that it becomes a few vector instructions.
fn is_plain(bytes: &[u8]) -> bool {
    let Some(lines) = bytes.strip_suffix(b"\r\n\r\n") else {
        return false;
    };
    let suspect = |(before, byte): (&u8, &u8)| {
        (*byte == b'#') | ((*before == b'\n') & Head::may_begin_length(*byte))
    };
    // No line before the last one may begin a field with a length or be empty, and the first byte begins a line, too.
    let pairs = lines.iter().zip(lines.get(1..).unwrap_or_default());
    lines
        .first()
        .is_some_and(|first| first.is_ascii_graphic() && *first != b'#')
        && !pairs.fold(false, |found, pair| found | suspect(pair))
}

/// Skips the whole lines at the beginning that are fields without a length.
fn skip_fields(mut bytes: &[u8]) -> &[u8] {
    while bytes
        .first()
        .is_some_and(|first| !Head::may_begin_length(*first))
    {
        match end_of_line(bytes) {
            Some(end) => bytes = &bytes[end + 1..],
            None => break,
        }
    }
    bytes
}

/// Returns the position of the first line feed.
fn end_of_line(bytes: &[u8]) -> Option<usize> {
    let mut rest = bytes;
    // Reading from a slice cannot fail. This searches many bytes at a time.
    let read = rest.skip_until(b'\n').unwrap_or_default();
    read.checked_sub(1).filter(|end| bytes[*end] == b'\n')
}

impl Head {
    /// Returns whether a line that begins with this byte may be a field with a length or a transfer coding, or the empty
    /// line at the end of the head.
    const fn may_begin_length(first: u8) -> bool {
        // Bitwise, and not `||`, so that many bytes can be looked at in one instruction.
        (first <= b' ') | (first | 0x20 == b'c') | (first | 0x20 == b't')
    }

    fn field(&mut self, line: &[u8], cut: bool) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            return;
        };
        let (name, value) = (line[..colon].trim_ascii(), line[colon + 1..].trim_ascii());
        if name.eq_ignore_ascii_case(b"content-length") {
            let before = self.length.replace(number(value, 10).unwrap_or_default());
            self.unclear |= cut || before.is_some() || number(value, 10).is_none();
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            self.coded = true;
            self.unclear |= cut;
        }
    }
}

/// Returns the size that a chunk size line gives. Extensions may follow the size, and are ignored (RFC 9112 §7.1.1).
fn chunk_size(line: &[u8], cut: bool) -> Option<u64> {
    match line.iter().position(|byte| b"; \t".contains(byte)) {
        Some(end) => number(&line[..end], 16),
        None => number(line, 16).filter(|_| !cut),
    }
}

fn number(digits: &[u8], radix: u32) -> Option<u64> {
    let text = std::str::from_utf8(digits).ok()?;
    // `from_str_radix` also accepts a sign, which a length may not have.
    let plain = text.bytes().all(|byte| byte.is_ascii_hexdigit());
    u64::from_str_radix(text, radix).ok().filter(|_| plain)
}

#[cfg(test)]
mod tests;
