//! Bounds of numbers. A larger number is a typo, and would overflow later: a time that cannot be
//! added to now, a queue that cannot be allocated.

use serde::Deserialize as _;
use serde::de::{Deserializer, Error};
use std::num::NonZeroU64;

/// Deserializes a number from 1 to `MOST`.
pub(super) fn positive<'de, D, T, const MOST: u64>(from: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: TryFrom<NonZeroU64>,
{
    let given = u64::deserialize(from)?;
    let number = NonZeroU64::new(given).filter(|number| number.get() <= MOST);
    let number = number.and_then(|number| T::try_from(number).ok());
    number.ok_or_else(|| Error::custom(format_args!("expected a whole number from 1 to {MOST}")))
}

/// Deserializes a number from 0 to `MOST`.
pub(super) fn natural<'de, D, T, const MOST: u64>(from: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: TryFrom<u64>,
{
    let given = Some(u64::deserialize(from)?).filter(|number| *number <= MOST);
    let number = given.and_then(|number| T::try_from(number).ok());
    number.ok_or_else(|| Error::custom(format_args!("expected a whole number from 0 to {MOST}")))
}

/// Deserializes an optional number from 1 to `MOST`.
pub(super) fn optional<'de, D, T, const MOST: u64>(from: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: TryFrom<NonZeroU64>,
{
    let Some(given) = Option::<u64>::deserialize(from)? else {
        return Ok(None);
    };
    let number = NonZeroU64::new(given).filter(|number| number.get() <= MOST);
    let number = number.and_then(|number| T::try_from(number).ok());
    number
        .map(Some)
        .ok_or_else(|| Error::custom(format_args!("expected a whole number from 1 to {MOST}")))
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    #[test]
    fn a_number_out_of_bounds_is_refused_with_bound_and_line() {
        let huge = u64::MAX;
        for (before, field) in [
            ("", "max_connections: {}"),
            ("", "shutdown_timeout: {}"),
            ("", "lame_duck: {}"),
            ("timeouts:", "  connect: {}"),
            ("timeouts:", "  client_hello: {}"),
            ("timeouts:", "  idle: {}"),
            ("timeouts:", "  response: {}"),
            ("timeouts:", "  pool_idle: {}"),
            ("restart:", "  ready_within: {}"),
            ("restart:", "  linger: {}"),
            ("breaker:", "  failures: {}"),
            ("breaker:", "  open: {}"),
            ("limits:", "  memory_mib: {soft: 1, hard: {}}"),
            ("limits:", "  tasks: {soft: {}, hard: {}}"),
            ("websocket:", "  ping: {}"),
            ("recorder:", "  queue: {}"),
            ("recorder:", "  max_bytes: {}"),
            ("recorder:", "  keep: {}"),
            ("state:", "  every: {}"),
            ("discovery:", "  timeout: {}"),
            ("discovery:", "  mdns: {port: {}}"),
            (
                "discovery:",
                "  peers: {listen: '127.0.0.1:1', tell: [], hello: {}}",
            ),
            ("discovery:", "  consul: {url: 'http://a:1', ttl: {}}"),
            ("discovery:", "  etcd: {endpoints: ['http://a:1'], ttl: {}}"),
            (
                "routes:",
                "- {upstreams: [http://a], health: {path: /, interval: {}}}",
            ),
            (
                "routes:",
                "- {upstreams: [http://a], sticky: {cookie: a, idle: {}}}",
            ),
            (
                "routes:",
                "- {upstreams: [http://a], sticky: {cookie: a, most: {}}}",
            ),
            ("routes:", "- {stdio: {command: [a], processes: {}}}"),
            ("routes:", "- {stdio: {command: [a], idle: {}}}"),
            ("routes:", "- {stdio: {command: [a], stop: {}}}"),
            ("routes:", "- {stdio: {command: [a], max_message: {}}}"),
            ("routes:", "- {stdio: {command: [a], sessions: {most: {}}}}"),
            ("routes:", "- {stdio: {command: [a], sessions: {idle: {}}}}"),
            ("routes:", "- {feed: {url: http://a, queue: {}}}"),
            ("routes:", "- {feed: {url: http://a, replay: {}}}"),
            ("routes:", "- {feed: {url: http://a, max_event: {}}}"),
            ("routes:", "- {feed: {url: http://a, idle: {}}}"),
        ] {
            for number in [
                huge.to_string(),
                (huge / 2).to_string(),
                "-1".into(),
                "1.5".into(),
            ] {
                let text = format!("{before}\n{}\n", field.replace("{}", &number));
                let message = Config::parse(&text).unwrap_err();
                assert!(message.contains("line 2"), "{text} gave {message}");
            }
        }
    }
}
