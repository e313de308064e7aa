//! What the proxy knows at its next start: its peers, and which upstreams to leave
//! alone.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use lifecycle_runtime::{BoxError, Component, Context, StateFile};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::config;
use crate::discovery::{Peer, PeerTable};
use crate::protection::breaker::Tripped;
use crate::routing::routes::Routes;
use crate::telemetry::logging::Throttle;

/// Raised only by a build that cannot read what an older one wrote. Fields come and go
/// without: what is missing is empty, what is not known is kept.
const VERSION: u32 = 1;

/// What is in the file.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
struct Known {
    #[serde(deserialize_with = "readable")]
    peers: Vec<Peer>,
    #[serde(deserialize_with = "readable")]
    breakers: Vec<Breaker>,
    /// What another build wrote, for when that one is back.
    #[serde(flatten)]
    others: Map<String, Value>,
}

/// A breaker that is not closed.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct Breaker {
    route: String,
    upstream: String,
    #[serde(flatten)]
    tripped: Tripped,
}

/// Those entries that can be read: one that cannot takes no other with it.
fn readable<'de, T: DeserializeOwned, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    let entries = Vec::<Value>::deserialize(deserializer)?;
    let entries = entries.into_iter().map(serde_json::from_value);
    Ok(entries.filter_map(Result::ok).collect())
}

/// What was known when the proxy last ran.
#[derive(Debug)]
pub struct SavedState(Arc<StateFile<Known>>);

impl SavedState {
    /// Reads the file that is configured, if one is. One that is damaged is put aside.
    ///
    /// # Errors
    ///
    /// If the file cannot be read.
    pub async fn recall(config: &config::State) -> io::Result<Option<Self>> {
        let Some(path) = config.file.as_ref() else {
            return Ok(None);
        };
        let file = StateFile::<Known>::open(path, "proxy", VERSION).await?;
        if let Some(saved) = file.restored() {
            let (peers, breakers) = file.read(|known| (known.peers.len(), known.breakers.len()));
            let in_order = saved.shutdown_at.is_some();
            info!(path = %path.display(), peers, breakers, in_order, "state restored");
        }
        Ok(Some(Self(Arc::new(file))))
    }

    /// Has the breakers go on where they stood, and returns the peers that were known.
    pub fn resume(&self, routes: &Routes) -> Vec<Peer> {
        self.0.read(|known| {
            for (route, member) in routes.members() {
                let upstream = member.upstream.to_string();
                let found = known
                    .breakers
                    .iter()
                    .find(|breaker| breaker.route == route && breaker.upstream == upstream);
                if let Some(found) = found {
                    member.breaker.resume(found.tripped);
                }
            }
            known.peers.clone()
        })
    }

    /// Keeps up with these from now on, until another process does, which `left`
    /// tells.
    #[must_use]
    pub fn of(
        self,
        routes: Arc<Routes>,
        peers: Option<PeerTable>,
        left: CancellationToken,
    ) -> StateSaver {
        StateSaver {
            file: self.0,
            sources: Sources { routes, peers },
            left,
        }
    }
}

/// Saves what is known; its cleanup does so for the last time, and notes that there was
/// a shutdown.
#[derive(Debug)]
pub struct StateSaver {
    file: Arc<StateFile<Known>>,
    sources: Sources,
    left: CancellationToken,
}

#[derive(Clone, Debug)]
struct Sources {
    routes: Arc<Routes>,
    /// None if there are to be none; what was known of them is kept.
    peers: Option<PeerTable>,
}

impl Sources {
    /// Brings `file` up to date.
    fn collect(&self, file: &StateFile<Known>) {
        let breakers = self.routes.members().filter_map(|(route, member)| {
            let tripped = member.breaker.tripped()?;
            Some(Breaker {
                route,
                upstream: member.upstream.to_string(),
                tripped,
            })
        });
        let breakers: Vec<_> = breakers.collect();
        let peers = self.peers.as_ref().map(PeerTable::list);
        let news = file.read(|known| {
            known.breakers != breakers || peers.as_ref().is_some_and(|peers| *peers != known.peers)
        });
        if news {
            file.update(|known| {
                known.breakers = breakers;
                if let Some(peers) = peers {
                    known.peers = peers;
                }
            });
        }
    }
}

impl StateSaver {
    /// Saves what is known now, for another process to begin with.
    pub async fn save(&self) {
        self.sources.collect(&self.file);
        if let Err(error) = self.file.save().await {
            warn!(%error, "the state is not saved");
        }
    }

    /// Saves what has changed, now and then: a task without an end.
    pub fn save_every(&self, period: Duration) -> impl Future<Output = ()> + Send + use<> {
        let (file, sources) = (self.file.clone(), self.sources.clone());
        let left = self.left.clone();
        let saving = async move {
            let complaints = Throttle::default();
            let mut failed = 0_u64;
            let mut ticks = interval(period);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                sources.collect(&file);
                if let Err(error) = file.save().await {
                    failed += 1;
                    if complaints.allows() {
                        warn!(%error, failed, "the state is not saved");
                    }
                }
            }
        };
        async move { left.run_until_cancelled(saving).await.unwrap_or(()) }
    }
}

impl Component for StateSaver {
    async fn cleanup(&mut self, cx: &Context) -> Result<(), BoxError> {
        if self.left.is_cancelled() {
            info!("the state is another process's by now");
            return Ok(());
        }
        self.sources.collect(&self.file);
        Component::cleanup(&mut &*self.file, cx).await?;
        info!(path = %self.file.path().display(), "state saved");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_another_build_wrote_is_read_as_far_as_it_is_known_and_kept() {
        let text = r#"{
            "peers": [
                {"address": "192.0.2.1:1", "weight": 7},
                {"address": "nowhere"},
                {"address": "192.0.2.2:1", "id": "b", "last_seen": 1, "gone": true}
            ],
            "sessions": [1, 2]
        }"#;
        let known: Known = serde_json::from_str(text).unwrap();
        let gone: Vec<_> = known.peers.iter().map(|peer| peer.gone).collect();
        assert_eq!(gone, [false, true]);
        assert!(known.breakers.is_empty());
        let again = serde_json::to_value(&known).unwrap();
        assert_eq!(again["sessions"], serde_json::json!([1, 2]));
    }
}
