//! What is kept for single clients.

use std::num::NonZeroUsize;
use std::path::PathBuf;

use hyper::header::HeaderName;
use serde::Deserialize;

use super::{Seconds, bounds};

/// Clients that have a process of their own.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct Sessions {
    /// Sessions at the same time.
    #[serde(deserialize_with = "bounds::positive::<_, _, 100000>")]
    pub most: NonZeroUsize,
    /// A session that is not used is ended after this, in seconds.
    pub idle: Seconds,
    /// Whether a session has a socket, for notifications to its client.
    pub socket: bool,
    /// The directory where a file is kept of what the program of each session
    /// says on standard error.
    pub log: Option<PathBuf>,
}

impl Default for Sessions {
    fn default() -> Self {
        Self {
            most: const { NonZeroUsize::new(64).unwrap() },
            idle: Seconds(600),
            socket: false,
            log: None,
        }
    }
}

/// Clients that are always sent to the same upstream.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(try_from = "StickyFields")]
pub struct Sticky {
    /// How they are known.
    pub by: StickyBy,
    /// A client that is not heard of is forgotten after this, in seconds.
    pub idle: Seconds,
    /// Clients that are remembered at the same time.
    pub most: NonZeroUsize,
}

/// How a client is known again.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum StickyBy {
    /// By a cookie of this name, which the proxy sets.
    Cookie(String),
    /// By this field, which the client or the upstream sets.
    Header(HeaderName),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StickyFields {
    cookie: Option<String>,
    header: Option<String>,
    #[serde(default = "StickyFields::idle")]
    idle: Seconds,
    #[serde(
        default = "StickyFields::most",
        deserialize_with = "bounds::positive::<_, _, 10_000_000>"
    )]
    most: NonZeroUsize,
}

impl StickyFields {
    const fn idle() -> Seconds {
        Seconds(1800)
    }

    const fn most() -> NonZeroUsize {
        const { NonZeroUsize::new(10_000).unwrap() }
    }
}

impl TryFrom<StickyFields> for Sticky {
    type Error = &'static str;

    fn try_from(fields: StickyFields) -> Result<Self, Self::Error> {
        let by = match (fields.cookie, fields.header) {
            // The names of cookies are tokens, as those of fields are.
            (Some(name), None) if HeaderName::try_from(&name).is_ok() => StickyBy::Cookie(name),
            (Some(_), None) => return Err("`cookie` is no name of a cookie"),
            (None, Some(name)) => match HeaderName::try_from(name) {
                Ok(name) => StickyBy::Header(name),
                Err(_) => return Err("`header` is no name of a field"),
            },
            _ => return Err("`sticky` needs either `cookie` or `header`"),
        };
        Ok(Self {
            by,
            idle: fields.idle,
            most: fields.most,
        })
    }
}
