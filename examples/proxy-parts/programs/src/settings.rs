//! The settings of a pool, as a configuration file has them.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use lifecycle_proxy_common::{Seconds, bounds};
use serde::Deserialize;
use serde::de::{self, Deserializer};

/// The settings of a program that reads and writes JSON-RPC on its standard streams, one message a
/// line.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The program and its arguments.
    #[serde(deserialize_with = "command")]
    pub command: Vec<String>,
    /// The largest number of processes at the same time, sessions not counted.
    #[serde(
        deserialize_with = "bounds::positive::<_, _, 1000>",
        default = "Settings::processes"
    )]
    pub processes: NonZeroUsize,
    /// The time after which an unused process is ended, in seconds.
    #[serde(default = "Settings::idle")]
    pub idle: Seconds,
    /// The time, in seconds, that a process has to end after its input was closed. It has the same
    /// time again after SIGTERM.
    #[serde(default = "Settings::stop")]
    pub stop: Seconds,
    /// The size of the largest message, in bytes.
    #[serde(
        deserialize_with = "bounds::positive::<_, _, 1073741824>",
        default = "Settings::max_message"
    )]
    pub max_message: NonZeroUsize,
    /// The settings of sessions, in which a client has a process of its own. `None` means that the
    /// program has no sessions.
    pub sessions: Option<Sessions>,
}

impl Settings {
    /// Creates the settings for `command`, with defaults for all other fields.
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

/// The settings of sessions, in which each client has a process of its own.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct Sessions {
    /// The largest number of sessions at the same time.
    #[serde(deserialize_with = "bounds::positive::<_, _, 100000>")]
    pub most: NonZeroUsize,
    /// The time after which an unused session ends, in seconds.
    pub idle: Seconds,
    /// Whether each session has a Unix socket. Notifications that the program writes to the socket
    /// go to the session's client.
    pub socket: bool,
    /// The directory for logs of the programs' standard error, with one file for each session.
    /// `None` means no logs.
    pub log: Option<PathBuf>,
}

impl Default for Sessions {
    fn default() -> Self {
        Self {
            most: const { NonZeroUsize::new(64).unwrap() },
            idle: Seconds::of(600),
            socket: false,
            log: None,
        }
    }
}

fn command<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    let command = Vec::<String>::deserialize(deserializer)?;
    if command.first().is_none_or(String::is_empty) {
        return Err(de::Error::custom("a command needs a program"));
    }
    Ok(command)
}
