//! An announcement of the server by multicast DNS (RFC 6762), and its goodbye.

use std::fmt;
use std::time::Duration;

use lifecycle_proxy_common::Throttle;
use lifecycle_runtime::{BoxError, Component, Context};
use mdns_sd::{DaemonEvent, IfKind, Receiver, ServiceDaemon, ServiceInfo};
use tokio::time::sleep;
use tokio_util::task::AbortOnDropHandle;
use tracing::{info, warn};

use super::{Goodbye, Identity};
use crate::settings::Mdns;

/// The time that the responder needs to send a goodbye twice. It sends the second one after 120 ms,
/// unless it was stopped before.
const REPEATED: Duration = Duration::from_millis(150);

/// An announcement of the server: a responder that answers on the server's links. Dropping the
/// announcement ends the responder's thread.
pub(super) struct Announcement {
    responder: ServiceDaemon,
    goodbye: Goodbye,
    events: AbortOnDropHandle<()>,
}

impl Announcement {
    /// Starts to announce the server. Logs a warning and returns `None` if that fails.
    pub(super) fn start(
        config: &Mdns,
        identity: &Identity,
        limit: Duration,
        goodbye: Goodbye,
    ) -> Option<Self> {
        let responder = ServiceDaemon::new_with_port(config.port.get())
            .inspect_err(|error| warn!(%error, "the multicast DNS announcement failed"))
            .ok()?;
        match announce(&responder, config, identity) {
            Ok((name, events)) => {
                let leaving = responder.clone();
                goodbye.prepare(limit, move |_| withdraw(leaving.clone(), name.clone()));
                Some(Self {
                    responder,
                    goodbye,
                    events: AbortOnDropHandle::new(tokio::spawn(log_events(events))),
                })
            }
            Err(error) => {
                warn!(%error, "the multicast DNS announcement failed");
                stop(&responder);
                None
            }
        }
    }
}

/// Registers the service with the responder. Returns the service's full name and the responder's
/// events.
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

/// Withdraws the announcement: sends its records twice with a TTL of 0 (RFC 6762 §10.1).
async fn withdraw(responder: ServiceDaemon, name: String) -> Result<(), BoxError> {
    responder.unregister(&name)?.recv_async().await?;
    sleep(REPEATED).await;
    responder.shutdown()?.recv_async().await?;
    info!(name, "announcement withdrawn");
    Ok(())
}

/// Stops the responder's thread, which sends the goodbye if it has not sent it. Ignores an error,
/// since it means that the thread has already ended.
fn stop(responder: &ServiceDaemon) {
    let _ = responder.shutdown();
}

impl Announcement {
    fn stop(&self) {
        // A responder always sends a goodbye when it is stopped. So if the goodbye was cancelled,
        // the thread is not stopped and runs until the process ends.
        if !self.goodbye.cancelled().is_cancelled() {
            stop(&self.responder);
        }
    }
}

/// Logs the responder's events until the responder ends.
async fn log_events(events: Receiver<DaemonEvent>) {
    let complaints = Throttle::default();
    let mut failed = 0_u64;
    while let Ok(event) = events.recv_async().await {
        match event {
            DaemonEvent::Announce(name, at) => info!(name, at, "announced by multicast DNS"),
            DaemonEvent::NameChange(change) => {
                warn!(
                    from = change.original,
                    to = change.new_name,
                    "the announced name is taken: announcing another"
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
        let sent = self.goodbye.send().await;
        self.stop();
        self.events.cleanup(cx).await?;
        sent
    }

    fn abort(&mut self) {
        self.release();
    }

    fn release(&mut self) {
        self.stop();
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
            .field("goodbye", &self.goodbye)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use mdns_sd::DaemonStatus;
    use tokio::time::timeout;

    use super::*;
    use crate::settings::Settings;

    #[tokio::test]
    async fn the_responder_thread_ends_with_the_announcement() {
        let free = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let listening = free.local_addr().unwrap();
        drop(free);
        let mdns: Mdns = serde_saphyr::from_str(&format!("port: {}", listening.port())).unwrap();
        let identity = Identity::new(&Settings::default(), listening);
        let limit = Duration::from_secs(1);
        let announcement = Announcement::start(&mdns, &identity, limit, Goodbye::default());
        let announcement = announcement.unwrap();
        let responder = announcement.responder.clone();
        drop(announcement);
        let ended = async {
            loop {
                // Repeats the question, since a responder that stops at this moment never answers
                // it.
                let reply = responder.status().unwrap();
                let status = timeout(Duration::from_millis(50), reply.recv_async()).await;
                if matches!(status, Ok(Ok(DaemonStatus::Shutdown))) {
                    return;
                }
            }
        };
        timeout(Duration::from_secs(30), ended).await.unwrap();
    }
}
