//! The datagrams that peers exchange: small JSON objects.

use std::borrow::Cow;

use lifecycle_runtime::BoxError;
use serde::{Deserialize, Serialize};

/// The largest valid datagram, in bytes.
pub(super) const LONGEST: usize = 512;

/// A value that identifies a datagram. The acknowledgement of the datagram repeats it.
pub(super) type Nonce = String;

#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Datagram<'a> {
    pub(super) kind: Kind,
    /// The id of the sender.
    #[serde(borrow)]
    pub(super) id: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) nonce: Cow<'a, str>,
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    /// The sender tells that it is present.
    Hello,
    /// The sender tells that it leaves.
    Goodbye,
    /// The sender acknowledges a hello or goodbye.
    Ack,
}

impl<'a> Datagram<'a> {
    pub(super) fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("texts are JSON")
    }

    pub(super) fn decode(bytes: &'a [u8]) -> Result<Self, BoxError> {
        if bytes.len() > LONGEST {
            return Err("it is too long".into());
        }
        let datagram: Self = serde_json::from_slice(bytes)?;
        // Bounded, since the id and the nonce are stored, and the nonce is sent back.
        if datagram.id.len() > 255 || datagram.nonce.len() > 64 {
            return Err("its id or nonce is too long".into());
        }
        Ok(datagram)
    }
}

/// Returns a value that others cannot guess, for a new datagram.
pub(super) fn nonce() -> Nonce {
    let mut bytes = [0; 8];
    // Ignores a failure: `getrandom` fails where a sandbox forbids it. The nonce is constant then.
    // An acknowledgement still counts only if it comes from the peer that got the goodbye.
    let _ = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    format!("{:016x}", u64::from_ne_bytes(bytes))
}
