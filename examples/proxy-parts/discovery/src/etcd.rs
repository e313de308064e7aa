//! Registration in etcd with the JSON API of version 3. The key is bound to a lease, so that the
//! key of a killed server expires.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use base64::prelude::{BASE64_STANDARD, Engine as _};
use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE};
use hyper::{Method, Request};
use lifecycle_runtime::BoxError;
use serde_json::{Value, json};
use tracing::debug;

use super::Identity;
use super::call::call;
use super::registration::Registry;
use crate::settings;

/// A client of an etcd cluster, which sets one key.
#[derive(Debug)]
pub(super) struct Etcd {
    config: settings::Etcd,
    key: String,
    value: String,
    /// The id of the lease that the key is bound to. It is a number as text.
    lease: Mutex<Option<String>>,
}

impl Etcd {
    pub(super) fn new(config: &settings::Etcd, identity: &Identity) -> Self {
        let prefix = config.prefix.trim_end_matches('/');
        let value = json!({
            "id": identity.id,
            "address": identity.address,
            "port": identity.listening.port(),
        });
        Self {
            key: format!("{prefix}/{}/{}", identity.service, identity.id),
            value: value.to_string(),
            config: config.clone(),
            lease: Mutex::default(),
        }
    }

    /// Posts a request to the servers in turn until one of them succeeds.
    async fn post(&self, path: &str, body: &Value) -> Result<Value, BoxError> {
        let mut errors = Vec::new();
        for endpoint in &self.config.endpoints {
            let mut request = Request::builder()
                .method(Method::POST)
                .uri(path)
                .header(CONTENT_TYPE, "application/json");
            if let Some(token) = &self.config.token {
                request = request.header(AUTHORIZATION, token.reveal());
            }
            let request = request.body(Full::new(Bytes::from(body.to_string())));
            let request = request.expect("the path is made of labels");
            match call(endpoint, request).await {
                Ok(answer) => return Ok(serde_json::from_slice(&answer)?),
                Err(error) => errors.push(error.to_string()),
            }
        }
        Err(errors.join("; ").into())
    }

    fn lease(&self) -> MutexGuard<'_, Option<String>> {
        self.lease.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Registry for Etcd {
    const NAME: &'static str = "etcd";

    fn time_to_live(&self) -> Duration {
        self.config.ttl.duration()
    }

    async fn register(&self) -> Result<(), BoxError> {
        let ttl = self.config.ttl.duration().as_secs().to_string();
        let granted = self.post("/v3/lease/grant", &json!({ "TTL": ttl })).await?;
        let lease = granted["ID"]
            .as_str()
            .ok_or("the lease has no ID")?
            .to_owned();
        *self.lease() = Some(lease.clone());
        let put = json!({
            "key": BASE64_STANDARD.encode(&self.key),
            "value": BASE64_STANDARD.encode(&self.value),
            "lease": lease,
        });
        self.post("/v3/kv/put", &put).await.map(drop)
    }

    async fn renew(&self) -> Result<(), BoxError> {
        let lease = self.lease().clone().ok_or("there is no lease")?;
        let renewed = self
            .post("/v3/lease/keepalive", &json!({ "ID": lease }))
            .await?;
        // An answer without a TTL means that the lease has expired.
        match renewed["result"]["TTL"].as_str() {
            Some(ttl) if ttl != "0" => Ok(()),
            _ => Err("the lease has run out".into()),
        }
    }

    async fn deregister(&self) -> Result<(), BoxError> {
        let lease = self.lease().clone();
        if let Some(lease) = lease {
            // Revokes the lease, which also deletes the key.
            let revoked = self.post("/v3/lease/revoke", &json!({ "ID": lease })).await;
            match revoked {
                Ok(_) => return Ok(()),
                Err(error) => debug!(%error, "revoking the lease failed"),
            }
        }
        let key = json!({ "key": BASE64_STANDARD.encode(&self.key) });
        self.post("/v3/kv/deleterange", &key).await.map(drop)
    }
}
