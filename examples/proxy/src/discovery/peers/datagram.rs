//! What peers send each other: a small object of JSON.

use std::borrow::Cow;

use lifecycle_runtime::BoxError;
use serde::{Deserialize, Serialize};

/// Longer ones are nobody's.
pub(super) const LONGEST: usize = 512;

/// Comes back with the acknowledgement.
pub(super) type Nonce = String;

#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Datagram<'a> {
    pub(super) kind: Kind,
    /// Of the sender.
    #[serde(borrow)]
    pub(super) id: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) nonce: Cow<'a, str>,
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    /// The sender is there.
    Hello,
    /// The sender goes.
    Goodbye,
    /// The sender heard one of the others.
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
        // What is echoed and kept is small.
        if datagram.id.len() > 255 || datagram.nonce.len() > 64 {
            return Err("its id or nonce is too long".into());
        }
        Ok(datagram)
    }
}

/// Something that nobody guesses.
pub(super) fn nonce() -> Nonce {
    let mut bytes = [0; 8];
    // It fails where the call is forbidden. An acknowledgement is still taken only from
    // the peer that was told.
    let _ = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    format!("{:016x}", u64::from_ne_bytes(bytes))
}
