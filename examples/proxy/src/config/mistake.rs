//! Error messages for an invalid configuration. A message tells the place of the error and what is
//! wrong. It never quotes a value, since the value may be a misplaced secret.

use serde_saphyr::{Error, Location};

/// The largest edit distance from an unknown field to the known field that is suggested instead.
const TYPOS: usize = 2;

/// Describes an error, with its line in the file.
pub(super) fn describe(error: &Error) -> String {
    let message = message(error);
    match error.location().filter(|at| *at != Location::UNKNOWN) {
        Some(at) => {
            let (line, column) = (at.line(), at.column());
            format!("{message} (<input>:{line}:{column}, line {line})")
        }
        None => message,
    }
}

fn message(error: &Error) -> String {
    match error {
        Error::WithSnippet { error, .. } | Error::AliasError { error, .. } => message(error),
        // The message comes from a type of this crate or from the parser. It never quotes a value.
        Error::Message { msg, .. } | Error::ExternalMessage { msg, .. } => msg.clone(),
        Error::SerdeInvalidType {
            unexpected,
            expected,
            ..
        }
        | Error::SerdeInvalidValue {
            unexpected,
            expected,
            ..
        } => format!("expected {expected}, found {}", kind(unexpected)),
        Error::SerdeInvalidLength { expected, .. } => format!("expected {expected}"),
        Error::SerdeUnknownField {
            field, expected, ..
        } => unknown("field", field, expected),
        Error::SerdeUnknownVariant {
            variant, expected, ..
        } => unknown("word", variant, expected),
        Error::SerdeMissingField { field, .. } => format!("the field `{field}` is missing"),
        Error::DuplicateMappingKey { .. } => "the field occurs twice".into(),
        Error::InvalidScalar {
            ty: "u64" | "u32" | "u16" | "usize",
            ..
        } => "expected a whole number".into(),
        Error::InvalidScalar { ty, .. } => format!("expected a value of type {ty}"),
        Error::Unexpected { expected, .. } => format!("expected {expected}"),
        Error::Eof { .. } => "the file ends too early".into(),
        Error::Budget { .. } => "it is too large or too deep".into(),
        Error::MultipleDocuments { .. } => "expected one document".into(),
        Error::IndentationError { .. } => "the indentation is wrong".into(),
        _ => "this cannot be read".into(),
    }
}

/// Returns the kind of a value without the value: `string "x"` becomes `a string`.
fn kind(unexpected: &str) -> String {
    let kind = unexpected.split([' ', '`', '"']).next().unwrap_or_default();
    match kind {
        "integer" => "an integer".into(),
        "unit" | "Option" | "" => "nothing".into(),
        "floating" => "a floating point number".into(),
        kind => format!("a {kind}"),
    }
}

/// Describes an unknown field or word. Suggests a known field or word with a similar spelling.
fn unknown(what: &str, given: &str, expected: &[&str]) -> String {
    let meant = expected
        .iter()
        .map(|known| (distance(given, known), *known))
        .min()
        .filter(|(typos, known)| *typos <= TYPOS && known.len() > 2 * TYPOS - 1);
    match meant {
        Some((_, known)) => format!("unknown {what} `{given}`; did you mean `{known}`?"),
        None => format!("unknown {what}; known are `{}`", expected.join("`, `")),
    }
}

/// Returns the number of characters that must be added, removed or changed to turn `from` into
/// `to`.
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<_> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (at, letter) in from.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], at + 1);
        for (column, other) in to.iter().enumerate() {
            let changed = diagonal + usize::from(letter != *other);
            diagonal = row[column + 1];
            row[column + 1] = changed.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn the_edit_distance_counts_differing_letters() {
        for (from, to, typos) in [
            ("", "abc", 3),
            ("idle", "idle", 0),
            ("idel", "idle", 2),
            ("shutdown_timeot", "shutdown_timeout", 1),
            ("kitten", "sitting", 3),
        ] {
            assert_eq!(distance(from, to), typos, "{from} {to}");
        }
    }

    #[test]
    fn no_error_message_quotes_a_secret() {
        const SECRET: &str = "hunter2-hunter2-hunter2";
        for text in [
            "admin: {token: S}\nmax_connections: 0\n",
            "max_connections: 0 # S\n",
            "admin: S",
            "admin: [S]",
            "admin:\n  token:S\n",
            "admin: {token:S}",
            "admin: {S: token}",
            "admin: {S: 1, S: 2}",
            "admin: {token: [S]}",
            "admin: {enabled: S}",
            "admin: {address: S}",
            "admin: {hosts: ['S S']}",
            "admin: {token: 'S and more'}",
            "admin: {token: S, token: S}",
            "S: 1",
            "S",
            "max_connections: S",
            "timeouts: {idle: S}",
            "listen_addrs: [S]",
            "upstream: http://me:S@app",
            "upstream: S",
            "upstream: http://app/S",
            "upstream: http://app#S",
            "routes: [{upstreams: ['http://me:S@app']}]",
            "routes: [{feed: {url: 'http://me:S@app/'}}]",
            "routes: [{feed: {url: 'ftp://app/?key=S'}}]",
            "routes: [{feed: {url: 'S S'}}]",
            "routes: [{host: 'S S'}]",
            "routes: [{path: S}]",
            "routes: [{stdio: {command: [serve, '--token=S'], processes: 0}}]",
            "routes: [{upstreams: [http://a], sticky: {cookie: 'S S'}}]",
            "discovery: {service: 'S/S'}",
            "discovery: {id: 'S/S'}",
            "discovery: {mdns: {service: S}}",
            "discovery: {consul: {url: 'http://me:S@a:1'}}",
            "discovery: {consul: {url: 'http://a:1', token: \"S\\u0007\"}}",
            "discovery: {etcd: {endpoints: ['http://a:1/S']}}",
            "tls: {listen_addrs: ['127.0.0.1:1'], allow: [{name: 'S S'}]}",
            "tls: {listen_addrs: ['127.0.0.1:1'], allow: [{name: a, to: 'me:S@a'}]}",
            "admin: {token: *S}",
            "admin: {token: !S x}",
            "admin: {token: \"S",
            "admin: {token: S\n",
            "admin: {token: S}\nS",
            "? [S]\n: S\n: S",
            "a: &S b\n<<: S\n",
        ] {
            let text = text.replace('S', SECRET);
            let message = Config::parse(&text).unwrap_err();
            assert!(!message.contains("hunter2"), "{text:?} gave {message}");
        }
    }
}
