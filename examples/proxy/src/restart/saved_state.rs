//! State that is kept in a file from one process to the next: known peers and open breakers.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use lifecycle_proxy_common::Throttle;
use lifecycle_proxy_discovery::{Peer, PeerTable};
use lifecycle_proxy_overload::breaker::Tripped;
use lifecycle_runtime::{BoxError, Component, Context, StateFile};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::config;
use crate::routing::routes::Routes;

/// The version of the file's format. Raise it only if a build cannot read older files. Missing
/// fields default to empty, and unknown fields are kept.
const VERSION: u32 = 1;

/// The content of the state's file.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default)]
struct Content {
    #[serde(deserialize_with = "skip_unreadable")]
    peers: Vec<Peer>,
    #[serde(deserialize_with = "skip_unreadable")]
    breakers: Vec<Breaker>,
    /// Fields that other builds have written. They are kept for the time when such a build runs
    /// again.
    #[serde(flatten)]
    others: Map<String, Value>,
}

/// The saved state of a breaker that was not closed.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
struct Breaker {
    route: String,
    upstream: String,
    #[serde(flatten)]
    tripped: Tripped,
}

/// Deserializes the entries of a list, and skips entries that cannot be read.
fn skip_unreadable<'de, T: DeserializeOwned, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    let entries = Vec::<Value>::deserialize(deserializer)?;
    let entries = entries.into_iter().map(serde_json::from_value);
    Ok(entries.filter_map(Result::ok).collect())
}

/// The state that the previous process saved in the file.
#[derive(Debug)]
pub struct SavedState(Arc<StateFile<Content>>);

impl SavedState {
    /// Reads the configured file, if there is one. A damaged file is moved aside.
    ///
    /// # Errors
    ///
    /// When the file cannot be read.
    pub async fn load(config: &config::State) -> io::Result<Option<Self>> {
        let Some(path) = config.file.as_ref() else {
            return Ok(None);
        };
        let file = StateFile::<Content>::open(path, "proxy", VERSION).await?;
        if let Some(saved) = file.restored() {
            let (peers, breakers) = file.read(|known| (known.peers.len(), known.breakers.len()));
            let in_order = saved.shutdown_at.is_some();
            info!(path = %path.display(), peers, breakers, in_order, "state restored");
        }
        Ok(Some(Self(Arc::new(file))))
    }

    /// Restores the states of the breakers, and returns the known peers.
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

    /// Creates a saver, which saves the state of `routes` and `peers` until `left` is cancelled.
    /// Cancelling it means that another process owns the file from then on.
    #[must_use]
    pub fn into_saver(
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

/// A component that saves the state regularly. Its cleanup saves the state for the last time and
/// records that the shutdown was orderly.
#[derive(Debug)]
pub struct StateSaver {
    file: Arc<StateFile<Content>>,
    sources: Sources,
    left: CancellationToken,
}

#[derive(Clone, Debug)]
struct Sources {
    routes: Arc<Routes>,
    /// The table of peers. `None` if peers are not configured; the file then keeps the peers it
    /// has.
    peers: Option<PeerTable>,
}

impl Sources {
    /// Copies the current state into `file`, if the state has changed.
    fn collect(&self, file: &StateFile<Content>) {
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
    /// Saves the current state to the file, for the next process.
    pub async fn save(&self) {
        self.sources.collect(&self.file);
        if let Err(error) = self.file.save().await {
            warn!(%error, "saving the state failed");
        }
    }

    /// Saves changed state every `period`, until another process owns the file.
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
                        warn!(%error, failed, "saving the state failed");
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
            info!("the state file belongs to the new process: not saved");
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
    fn unknown_fields_of_another_build_are_kept_and_bad_entries_skipped() {
        let text = r#"{
            "peers": [
                {"address": "192.0.2.1:1", "weight": 7},
                {"address": "nowhere"},
                {"address": "192.0.2.2:1", "id": "b", "last_seen": 1, "gone": true}
            ],
            "sessions": [1, 2]
        }"#;
        let known: Content = serde_json::from_str(text).unwrap();
        let gone: Vec<_> = known.peers.iter().map(|peer| peer.gone).collect();
        assert_eq!(gone, [false, true]);
        assert!(known.breakers.is_empty());
        let again = serde_json::to_value(&known).unwrap();
        assert_eq!(again["sessions"], serde_json::json!([1, 2]));
    }
}
