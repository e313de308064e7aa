//! JSON-RPC 2.0, as far as a pool of programs needs it, with one message a line. The pool gives
//! each request an id of its own. So it never takes a late answer for the answer to another
//! request.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

/// A request or notification that can be sent as a line.
#[derive(Debug)]
pub struct Call {
    /// The id that the client chose. `None` for a notification, which has no answer.
    id: Option<Box<RawValue>>,
    method: Box<RawValue>,
    params: Option<Box<RawValue>>,
}

/// The error for a message that cannot be parsed: a description.
pub type Invalid = &'static str;

#[derive(Deserialize, Serialize)]
struct Envelope<'a> {
    jsonrpc: &'a str,
    #[serde(borrow, default, deserialize_with = "present")]
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    #[serde(skip_serializing_if = "Option::is_none")]
    params: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a RawValue>,
}

/// Deserializes a field so that `null` counts as present, since a result may be `null`.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

impl Call {
    /// Parses a client's message.
    ///
    /// # Errors
    ///
    /// When the message is not a single request or notification of JSON-RPC 2.0.
    pub fn read(body: &[u8]) -> Result<Self, Invalid> {
        let message: Envelope<'_> =
            serde_json::from_slice(body).map_err(|_| "the body is not a JSON-RPC message")?;
        if message.jsonrpc != "2.0" {
            return Err("only JSON-RPC 2.0 is supported");
        }
        let method = message
            .method
            .ok_or("a message without a method is not a request")?;
        Ok(Self {
            id: message.id.map(ToOwned::to_owned),
            method: method.to_owned(),
            params: message.params.map(ToOwned::to_owned),
        })
    }

    /// Returns whether this call begins a session of the Model Context Protocol.
    #[must_use]
    pub fn is_initialize(&self) -> bool {
        self.method.get() == "\"initialize\""
    }

    /// Returns whether this call is a notification, which has no answer.
    #[must_use]
    pub const fn is_notification(&self) -> bool {
        self.id.is_none()
    }

    /// Formats the message as a line, with `number` as its id.
    #[must_use]
    pub fn line(&self, number: u64) -> String {
        let number = RawValue::from_string(number.to_string()).ok();
        let envelope = Envelope {
            jsonrpc: "2.0",
            id: self.id.as_ref().and(number.as_deref()),
            method: Some(&self.method),
            params: self.params.as_deref(),
            result: None,
            error: None,
        };
        line(&envelope)
    }

    /// Returns the answer with the client's id, if `text` is the answer to the request with the id
    /// `number`.
    #[must_use]
    pub fn answer(&self, number: u64, text: &str) -> Option<String> {
        let mut message: Envelope<'_> = serde_json::from_str(text).ok()?;
        let ours = message.method.is_none()
            && message.id.and_then(|id| id.get().parse().ok()) == Some(number);
        if !ours {
            return None;
        }
        message.id = self.id.as_deref();
        Some(line(&message))
    }
}

/// Formats a message as one line. Replacing line ends is safe, since JSON has line ends only
/// between tokens.
fn line(envelope: &Envelope<'_>) -> String {
    let mut text = serde_json::to_string(envelope).unwrap_or_default();
    if text.contains(['\n', '\r']) {
        text = text.replace(['\n', '\r'], " ");
    }
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_travels_as_one_line_with_an_id_of_the_pool() {
        let body = b"{\"jsonrpc\":\"2.0\",\"id\":\"mine\",\"method\":\"add\",\n\"params\":{\n\"a\": 1.50}}";
        let call = Call::read(body).unwrap();
        assert!(!call.is_notification());
        assert_eq!(
            call.line(7),
            "{\"jsonrpc\":\"2.0\",\"id\":7,\"method\":\"add\",\"params\":{ \"a\": 1.50}}\n"
        );
    }

    #[test]
    fn the_answer_gets_the_clients_id_and_no_other_line_is_taken_for_it() {
        let call = Call::read(br#"{"jsonrpc":"2.0","id":"mine","method":"add"}"#).unwrap();
        for other in [
            r#"{"jsonrpc":"2.0","id":6,"result":1}"#,
            r#"{"jsonrpc":"2.0","method":"progress"}"#,
            r#"{"jsonrpc":"2.0","id":7,"method":"ping"}"#,
            r#"{"jsonrpc":"2.0","id":"7","result":1}"#,
            "not json",
        ] {
            assert_eq!(call.answer(7, other), None, "{other}");
        }
        let answer = call.answer(7, r#"{"jsonrpc":"2.0","id":7,"result":null}"#);
        assert_eq!(
            answer.unwrap(),
            "{\"jsonrpc\":\"2.0\",\"id\":\"mine\",\"result\":null}\n"
        );
    }

    #[test]
    fn messages_that_are_not_requests_are_refused() {
        for body in [
            "",
            "[]",
            r#"[{"jsonrpc":"2.0","method":"a"}]"#,
            r#"{"jsonrpc":"1.0","method":"a"}"#,
            r#"{"jsonrpc":"2.0","id":1,"result":1}"#,
        ] {
            assert!(Call::read(body.as_bytes()).is_err(), "{body}");
        }
        let notification = Call::read(br#"{"jsonrpc":"2.0","method":"a"}"#).unwrap();
        assert!(notification.is_notification());
        assert!(!notification.line(3).contains("id"));
    }
}
