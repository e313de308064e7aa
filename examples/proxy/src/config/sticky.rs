//! The settings of affinity: a client stays with the same upstream.

use std::num::NonZeroUsize;

use hyper::header::HeaderName;
use lifecycle_proxy_common::bounds;
use serde::Deserialize;

use super::Seconds;

/// The settings of affinity, with which a client stays with the same upstream.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(try_from = "StickyFields")]
pub struct Sticky {
    /// The way in which the proxy recognizes a client.
    pub by: StickyBy,
    /// The time after which a silent client is forgotten, in seconds.
    pub idle: Seconds,
    /// The largest number of clients that are remembered at the same time.
    pub most: NonZeroUsize,
}

/// The way in which the proxy recognizes a client.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum StickyBy {
    /// A cookie of this name, which the proxy sets.
    Cookie(String),
    /// A header field of this name, which the client or the upstream sets.
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
        Seconds::of(1800)
    }

    const fn most() -> NonZeroUsize {
        const { NonZeroUsize::new(10_000).unwrap() }
    }
}

impl TryFrom<StickyFields> for Sticky {
    type Error = &'static str;

    fn try_from(fields: StickyFields) -> Result<Self, Self::Error> {
        let by = match (fields.cookie, fields.header) {
            // Checks a cookie's name as a field name, since both kinds of names have the same
            // syntax.
            (Some(name), None) if HeaderName::try_from(&name).is_ok() => StickyBy::Cookie(name),
            (Some(_), None) => return Err("`cookie` is not a valid cookie name"),
            (None, Some(name)) => match HeaderName::try_from(name) {
                Ok(name) => StickyBy::Header(name),
                Err(_) => return Err("`header` is not a valid field name"),
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
