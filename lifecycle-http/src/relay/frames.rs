//! Finds where the frames of a WebSocket begin and end (RFC 6455 §5.2).

const CLOSE: u8 = 0x8;

/// The position in one direction of a WebSocket: inside a frame, or between two frames.
#[derive(Debug, Default)]
pub(super) struct Frames {
    /// The bytes of the current frame's header that have arrived.
    header: [u8; 14],
    have: usize,
    /// The number of bytes of the frame's payload that have not arrived.
    left: u64,
}

impl Frames {
    pub(super) fn is_between(&self) -> bool {
        self.have == 0 && self.left == 0
    }

    /// Follows the bytes that pass in this direction. Returns whether a close frame has ended in them.
    pub(super) fn pass(&mut self, mut bytes: &[u8]) -> bool {
        let mut closed = false;
        while !bytes.is_empty() {
            if self.have < self.header_length() {
                self.header[self.have] = bytes[0];
                self.have += 1;
                bytes = &bytes[1..];
                if self.have == self.header_length() {
                    self.left = self.payload_length();
                }
            } else {
                let part =
                    usize::try_from(self.left).map_or(bytes.len(), |left| left.min(bytes.len()));
                self.left -= part as u64;
                bytes = &bytes[part..];
            }
            if self.have == self.header_length() && self.left == 0 {
                closed |= self.header[0] & 0xf == CLOSE;
                self.have = 0;
            }
        }
        closed
    }

    /// Returns the length of the frame's header. Until the first two bytes have arrived, it is 2, since those bytes
    /// tell the length.
    fn header_length(&self) -> usize {
        if self.have < 2 {
            return 2;
        }
        let mask = if self.header[1] & 0x80 == 0 { 0 } else { 4 };
        let length = match self.header[1] & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        2 + length + mask
    }

    fn payload_length(&self) -> u64 {
        let big = |bytes: &[u8]| {
            bytes
                .iter()
                .fold(0, |sum, byte| sum << 8 | u64::from(*byte))
        };
        match self.header[1] & 0x7f {
            126 => big(&self.header[2..4]),
            127 => big(&self.header[2..10]),
            length => u64::from(length),
        }
    }
}
