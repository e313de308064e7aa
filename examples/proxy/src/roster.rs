//! Who is connected and what each is doing, for people who look.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

use crate::activity::Activity;

/// The connections that are being served. A cheap clone is the same one.
#[derive(Clone, Debug, Default)]
pub struct Roster(Arc<Mutex<Table>>);

#[derive(Debug, Default)]
struct Table {
    next: u64,
    /// By number, so the oldest comes first.
    entries: BTreeMap<u64, Entry>,
}

#[derive(Clone, Debug)]
struct Entry {
    peer: SocketAddr,
    since: Instant,
    who: Who,
}

/// What can tell what a connection does.
#[derive(Clone, Debug)]
pub enum Who {
    /// HTTP, and what that was upgraded to.
    Http(Arc<Activity>),
    /// TLS that is passed on, and the name that was asked for, once that is known.
    Tls(Arc<OnceLock<String>>),
}

/// A place on the roster: whoever drops it has left.
#[derive(Debug)]
#[must_use]
pub struct Place {
    roster: Roster,
    number: u64,
}

/// One connection.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// The client.
    pub peer: SocketAddr,
    /// What is spoken.
    pub protocol: &'static str,
    /// Where it stands.
    pub stage: &'static str,
    /// The request it is in, or the name it asked for.
    pub request: Option<String>,
    /// For how long it has stood there.
    pub stage_ms: u64,
    /// How long ago it came.
    pub age_ms: u64,
}

impl Roster {
    /// Somebody comes.
    pub fn enter(&self, peer: SocketAddr, who: Who) -> Place {
        let since = Instant::now();
        let mut table = self.table();
        let number = table.next;
        table.next += 1;
        table.entries.insert(number, Entry { peer, since, who });
        drop(table);
        Place {
            roster: self.clone(),
            number,
        }
    }

    /// The oldest ones, at most `most` of them, and how many there are.
    #[must_use]
    pub fn oldest(&self, most: usize) -> (Vec<Row>, usize) {
        let table = self.table();
        let count = table.entries.len();
        let entries: Vec<_> = table.entries.values().take(most).cloned().collect();
        drop(table);
        (entries.iter().map(Entry::row).collect(), count)
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.roster.table().entries.remove(&self.number);
    }
}

impl Entry {
    fn row(&self) -> Row {
        let (protocol, stage, request, since) = match &self.who {
            Who::Http(activity) => {
                let doing = activity.doing();
                (doing.protocol, doing.stage, doing.request, doing.since)
            }
            Who::Tls(name) => match name.get() {
                Some(name) => ("TLS", "relaying", Some(name.clone()), self.since),
                None => ("TLS", "reading the hello", None, self.since),
            },
        };
        Row {
            peer: self.peer,
            protocol,
            stage,
            request,
            stage_ms: millis(since.elapsed()),
            age_ms: millis(self.since.elapsed()),
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use hyper::{Request, Version};
    use tokio::time::advance;

    use super::*;
    use crate::activity::Limits;

    const HOUR: Duration = Duration::from_secs(3600);

    fn peer(port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], port))
    }

    fn activity() -> Arc<Activity> {
        Arc::new(Activity::new(Limits {
            hello: HOUR,
            idle: HOUR,
        }))
    }

    #[tokio::test(start_paused = true)]
    async fn the_oldest_are_shown_first_up_to_a_bound_and_all_are_counted() {
        let roster = Roster::default();
        let first = roster.enter(peer(1), Who::Http(activity()));
        advance(Duration::from_secs(2)).await;
        let _others: Vec<_> = (2..6)
            .map(|port| roster.enter(peer(port), Who::Tls(Arc::default())))
            .collect();
        let (rows, count) = roster.oldest(2);
        assert_eq!((rows.len(), count), (2, 5));
        assert_eq!((rows[0].peer, rows[0].age_ms), (peer(1), 2000));
        assert_eq!(rows[1].stage, "reading the hello");
        drop(first);
        let (rows, count) = roster.oldest(9);
        assert_eq!((rows[0].peer, count), (peer(2), 4));
    }

    #[tokio::test(start_paused = true)]
    async fn a_row_says_what_is_done_for_whom_and_not_the_query() {
        let roster = Roster::default();
        let activity = activity();
        let _place = roster.enter(peer(1), Who::Http(activity.clone()));
        let row = || roster.oldest(1).0.remove(0);
        assert_eq!((row().protocol, row().stage), ("HTTP", "idle"));

        let request = Request::get("/slow?token=secret").body(()).unwrap();
        activity.asked(&request);
        activity.exchange_begins();
        activity.request_ended();
        advance(Duration::from_secs(3)).await;
        assert_eq!(row().request.as_deref(), Some("GET /slow"));
        assert_eq!(
            (row().protocol, row().stage, row().stage_ms),
            ("HTTP/1.1", "waiting for the upstream", 3000)
        );
        activity.answered();
        assert_eq!(row().stage, "answering");
        activity.exchange_ended();
        assert_eq!((row().stage, row().request), ("idle", None));
        activity.upgraded();
        assert_eq!((row().protocol, row().stage), ("WebSocket", "relaying"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_in_http2_shows_its_last_request() {
        let roster = Roster::default();
        let activity = activity();
        let _place = roster.enter(peer(1), Who::Http(activity.clone()));
        let mut request = Request::get(format!("/{}", "a".repeat(500)))
            .body(())
            .unwrap();
        *request.version_mut() = Version::HTTP_2;
        activity.asked(&request);
        activity.stream_begins();
        let (rows, _) = roster.oldest(1);
        assert_eq!(
            (rows[0].protocol, rows[0].stage),
            ("HTTP/2", "waiting for the upstream")
        );
        let shown = rows[0].request.as_ref().unwrap();
        assert!(
            shown.chars().count() < 130 && shown.ends_with('…'),
            "{shown}"
        );
        activity.stream_answered();
        assert_eq!(roster.oldest(1).0[0].stage, "open");
    }
}
