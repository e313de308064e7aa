//! An announcement by multicast DNS (RFC 6762), and its goodbye.

use std::fmt;
use std::time::Duration;

use lifecycle_runtime::{BoxError, Component, Context};
use mdns_sd::{DaemonEvent, IfKind, Receiver, ServiceDaemon, ServiceInfo};
use tokio::time::sleep;
use tokio_util::task::AbortOnDropHandle;
use tracing::{info, warn};

use super::{Farewell, Identity};
use crate::config::discovery::Mdns;
use crate::telemetry::logging::Throttle;

/// The responder repeats a goodbye after 120 ms, since datagrams are lost; when it is
/// ended before, it does not.
const REPEATED: Duration = Duration::from_millis(150);

/// What the proxy says on the links it is on. The responder has a thread of its own,
/// which ends with this value.
pub(super) struct Announcement {
    responder: ServiceDaemon,
    farewell: Farewell,
    events: AbortOnDropHandle<()>,
}

impl Announcement {
    /// Begins to announce. None, with a warning, if that cannot be.
    pub(super) fn start(
        config: &Mdns,
        identity: &Identity,
        limit: Duration,
        farewell: Farewell,
    ) -> Option<Self> {
        let responder = ServiceDaemon::new_with_port(config.port.get())
            .inspect_err(|error| warn!(%error, "there is no announcement by multicast DNS"))
            .ok()?;
        match announce(&responder, config, identity) {
            Ok((name, events)) => {
                let leaving = responder.clone();
                farewell.prepare(limit, move |_| leave(leaving.clone(), name.clone()));
                Some(Self {
                    responder,
                    farewell,
                    events: AbortOnDropHandle::new(tokio::spawn(tell(events))),
                })
            }
            Err(error) => {
                warn!(%error, "there is no announcement by multicast DNS");
                end(&responder);
                None
            }
        }
    }
}

/// The full name of what is announced, and what becomes of it.
fn announce(
    responder: &ServiceDaemon,
    config: &Mdns,
    identity: &Identity,
) -> mdns_sd::Result<(String, Receiver<DaemonEvent>)> {
    let events = responder.monitor()?;
    let listening = identity.listening;
    let all = listening.ip().is_unspecified();
    let mut interfaces: Vec<IfKind> = config.interfaces.iter().map(IfKind::from).collect();
    if interfaces.is_empty() && !all {
        interfaces.push(IfKind::Addr(listening.ip()));
    }
    if interfaces.is_empty() {
        responder.disable_interface(vec![IfKind::LoopbackV4, IfKind::LoopbackV6])?;
    } else {
        responder.disable_interface(IfKind::All)?;
        responder.enable_interface(interfaces)?;
    }
    let addresses = if all {
        String::new()
    } else {
        listening.ip().to_string()
    };
    let service = ServiceInfo::new(
        &config.service.domain(),
        &identity.id,
        &format!("{}.local.", identity.host),
        addresses,
        listening.port(),
        &[("id", identity.id.as_str())][..],
    )?;
    let service = if all {
        service.enable_addr_auto()
    } else {
        service
    };
    let name = service.get_fullname().to_owned();
    responder.register(service)?;
    info!(name, port = listening.port(), "announcing by multicast DNS");
    Ok((name, events))
}

/// Withdraws the announcement: its records are sent with a TTL of 0 (§10.1), twice.
async fn leave(responder: ServiceDaemon, name: String) -> Result<(), BoxError> {
    responder.unregister(&name)?.recv_async().await?;
    sleep(REPEATED).await;
    responder.shutdown()?.recv_async().await?;
    info!(name, "announcement withdrawn");
    Ok(())
}

/// Has the thread end, which says goodbye if that was not done. An error is no news:
/// it has ended already.
fn end(responder: &ServiceDaemon) {
    let _ = responder.shutdown();
}

impl Announcement {
    fn end(&self) {
        // It would say goodbye in any case. Where it must not, it ends with the process.
        if !self.farewell.withheld().is_cancelled() {
            end(&self.responder);
        }
    }
}

/// Logs what the responder has to tell, until it ends.
async fn tell(events: Receiver<DaemonEvent>) {
    let complaints = Throttle::default();
    let mut failed = 0_u64;
    while let Ok(event) = events.recv_async().await {
        match event {
            DaemonEvent::Announce(name, at) => info!(name, at, "announced by multicast DNS"),
            DaemonEvent::NameChange(change) => {
                warn!(
                    from = change.original,
                    to = change.new_name,
                    "another one has the announced name"
                );
            }
            DaemonEvent::Error(error) => {
                failed += 1;
                if complaints.allows() {
                    warn!(%error, failed, "multicast DNS failed");
                }
            }
            _ => {}
        }
    }
}

impl Component for Announcement {
    async fn cleanup(&mut self, cx: &Context) -> Result<(), BoxError> {
        cx.waiting_for(|| "the goodbye by multicast DNS".into());
        let said = self.farewell.say().await;
        self.end();
        self.events.cleanup(cx).await?;
        said
    }

    fn abort(&mut self) {
        self.release();
    }

    fn release(&mut self) {
        self.end();
        self.events.abort();
    }
}

impl Drop for Announcement {
    fn drop(&mut self) {
        self.release();
    }
}

impl fmt::Debug for Announcement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Announcement")
            .field("farewell", &self.farewell)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use mdns_sd::DaemonStatus;
    use tokio::time::timeout;

    use super::*;
    use crate::config;

    #[tokio::test]
    async fn its_thread_ends_with_it() {
        let free = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let listening = free.local_addr().unwrap();
        drop(free);
        let mdns: Mdns = serde_saphyr::from_str(&format!("port: {}", listening.port())).unwrap();
        let identity = Identity::new(&config::Discovery::default(), listening);
        let limit = Duration::from_secs(1);
        let announcement = Announcement::start(&mdns, &identity, limit, Farewell::default());
        let announcement = announcement.unwrap();
        let responder = announcement.responder.clone();
        drop(announcement);
        let ended = async {
            loop {
                // One that ends meanwhile never answers.
                let asked = responder.status().unwrap();
                let status = timeout(Duration::from_millis(50), asked.recv_async()).await;
                if matches!(status, Ok(Ok(DaemonStatus::Shutdown))) {
                    return;
                }
            }
        };
        timeout(Duration::from_secs(30), ended).await.unwrap();
    }
}
