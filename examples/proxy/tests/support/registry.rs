//! A registry that records requests, and answers them with a closure of the test.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use serde_json::Value;

use super::{Client, Upstream, client, eventually};

/// A request that the registry has received.
#[derive(Clone, Debug)]
pub struct Call {
    pub line: String,
    pub token: Option<String>,
    pub body: Value,
}

pub struct Registry {
    pub address: SocketAddr,
    calls: Arc<Mutex<Vec<Call>>>,
}

impl Registry {
    /// Starts a registry that answers each request with the status and the body that `answer`
    /// returns.
    pub fn start(answer: impl Fn(&str) -> (u16, &'static str) + Send + Sync + 'static) -> Self {
        Self::serve(move |client, call| {
            let (status, body) = answer(&call.line);
            let length = body.len();
            client.send(format!(
                "HTTP/1.1 {status} -\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
            ));
        })
    }

    /// Starts a registry that receives requests and never answers.
    pub fn silent() -> Self {
        Self::serve(|client, _| {
            client.rest();
        })
    }

    fn serve(answer: impl Fn(&mut Client, &Call) + Send + Sync + 'static) -> Self {
        let calls = Arc::new(Mutex::new(Vec::new()));
        let noted = calls.clone();
        let upstream = Upstream::start(move |_, client| {
            let Some(head) = client.next_head() else {
                return;
            };
            let field = |name: &str| client::header(&head, name).map(str::to_owned);
            let call = Call {
                line: head
                    .lines()
                    .next()
                    .unwrap()
                    .trim_end_matches(" HTTP/1.1")
                    .to_owned(),
                token: field("x-consul-token").or(field("authorization")),
                body: serde_json::from_slice(&client.body(&head)).unwrap_or_default(),
            };
            noted.lock().unwrap().push(call.clone());
            answer(client, &call);
        });
        Self {
            address: upstream.address,
            calls,
        }
    }

    /// Waits until there is a request whose first line begins with `line`. Returns the first such
    /// request.
    #[track_caller]
    pub fn find(&self, line: &str) -> Call {
        eventually(line, || self.all(line).into_iter().next())
    }

    /// Returns all requests so far whose first line begins with `line`.
    pub fn all(&self, line: &str) -> Vec<Call> {
        let calls = self.calls.lock().unwrap();
        let found = calls.iter().filter(|call| call.line.starts_with(line));
        found.cloned().collect()
    }
}
