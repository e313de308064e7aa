//! Registration with a Consul agent. The server registers a service with a TTL check, and passes
//! the check itself at intervals. So Consul notices when the server was killed.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::CONTENT_TYPE;
use hyper::{Method, Request, StatusCode};
use lifecycle_runtime::BoxError;
use serde_json::{Value, json};

use super::Identity;
use super::call::{CallError, call};
use super::registration::Registry;
use crate::settings;

/// The header field with the access token.
const TOKEN: &str = "X-Consul-Token";

/// The time after which Consul deregisters a service whose check fails. Consul replaces times below
/// a minute by a minute.
const FORGOTTEN: &str = "10m";

/// A client of one Consul agent, which registers one service.
#[derive(Debug)]
pub(super) struct Consul {
    config: settings::Consul,
    id: String,
    service: Value,
}

impl Consul {
    pub(super) fn new(config: &settings::Consul, identity: &Identity) -> Self {
        let ttl = config.ttl.duration().as_secs();
        let service = json!({
            "ID": identity.id,
            "Name": identity.service,
            "Address": identity.address,
            "Port": identity.listening.port(),
            "Check": {
                "CheckID": format!("service:{}", identity.id),
                "TTL": format!("{ttl}s"),
                "Status": "passing",
                "DeregisterCriticalServiceAfter": FORGOTTEN,
            },
        });
        Self {
            config: config.clone(),
            id: identity.id.clone(),
            service,
        }
    }

    async fn put(&self, path: &str, body: Bytes) -> Result<(), CallError> {
        let mut request = Request::builder()
            .method(Method::PUT)
            .uri(path)
            .header(CONTENT_TYPE, "application/json");
        if let Some(token) = &self.config.token {
            request = request.header(TOKEN, token.reveal());
        }
        let request = request.body(Full::new(body));
        let request = request.expect("the path is made of labels");
        call(&self.config.url, request).await.map(drop)
    }
}

impl Registry for Consul {
    const NAME: &'static str = "consul";

    fn time_to_live(&self) -> Duration {
        self.config.ttl.duration()
    }

    async fn register(&self) -> Result<(), BoxError> {
        let path = "/v1/agent/service/register?replace-existing-checks=true";
        let body = self.service.to_string().into();
        Ok(self.put(path, body).await?)
    }

    async fn renew(&self) -> Result<(), BoxError> {
        let path = format!("/v1/agent/check/pass/service:{}", self.id);
        Ok(self.put(&path, Bytes::new()).await?)
    }

    async fn deregister(&self) -> Result<(), BoxError> {
        let path = format!("/v1/agent/service/deregister/{}", self.id);
        match self.put(&path, Bytes::new()).await {
            // The agent does not know the service, so it has been deregistered already.
            Err(error) if error.is(StatusCode::NOT_FOUND) => Ok(()),
            other => Ok(other?),
        }
    }
}
