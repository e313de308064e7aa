//! Programs that answer requests.

use std::num::NonZeroUsize;

use lifecycle_proxy_common::bounds;
use serde::Deserialize;
use serde::de::{self, Deserializer};

use super::{Seconds, Sessions};

/// A program that answers JSON-RPC on its standard streams, one message a line.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Stdio {
    /// The program and its arguments.
    #[serde(deserialize_with = "command")]
    pub command: Vec<String>,
    /// The number of processes at the same time.
    #[serde(
        deserialize_with = "bounds::positive::<_, _, 1000>",
        default = "Stdio::processes"
    )]
    pub processes: NonZeroUsize,
    /// The time after which an unused process is ended, in seconds.
    #[serde(default = "Stdio::idle")]
    pub idle: Seconds,
    /// The time a process has to end after its input was closed, and again after SIGTERM.
    #[serde(default = "Stdio::stop")]
    pub stop: Seconds,
    /// The size of the largest message, in bytes.
    #[serde(
        deserialize_with = "bounds::positive::<_, _, 1073741824>",
        default = "Stdio::max_message"
    )]
    pub max_message: NonZeroUsize,
    /// Sessions, in which a client has a process of its own. `None` means that there are none.
    pub sessions: Option<Sessions>,
}

impl Stdio {
    /// Creates the configuration of `command` with the defaults.
    #[must_use]
    pub const fn new(command: Vec<String>) -> Self {
        Self {
            command,
            processes: Self::processes(),
            idle: Self::idle(),
            stop: Self::stop(),
            max_message: Self::max_message(),
            sessions: None,
        }
    }

    const fn processes() -> NonZeroUsize {
        const { NonZeroUsize::new(4).unwrap() }
    }

    const fn idle() -> Seconds {
        Seconds::of(300)
    }

    const fn stop() -> Seconds {
        Seconds::of(2)
    }

    const fn max_message() -> NonZeroUsize {
        const { NonZeroUsize::new(1 << 20).unwrap() }
    }
}

fn command<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let command = Vec::<String>::deserialize(deserializer)?;
    if command.first().is_none_or(String::is_empty) {
        return Err(de::Error::custom("a command needs a program"));
    }
    Ok(command)
}
