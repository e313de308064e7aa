//! Room on a server for clients that ask briefly, such as probes, whatever other clients do.

use std::fmt;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use http_body::{Body, Frame, SizeHint};
use lifecycle_runtime::Peer;
use pin_project_lite::pin_project;
use tokio::sync::Notify;

use crate::HttpConnection;

/// Room on a server for clients that ask briefly, such as probes, whatever other clients do. Clones share the same
/// room.
///
/// A server with a room accepts every connection. When the room is full, it cuts the oldest connection of the IP
/// address that has the most connections, and counts that connection as expired. A connection that holds a [`Stay`] is
/// never cut for this, and the number of stays is limited. So silent clients, slow clients and clients with long
/// streams keep nobody out, and a probe is answered.
///
/// ```
/// use http::{Request, Response, StatusCode};
/// use http_body_util::{Either, Empty, Full};
/// use lifecycle_http::{HttpConnection, HttpServer, RequestBody, Room};
/// use std::{convert::Infallible, num::NonZeroUsize};
/// # fn events() -> Empty<bytes::Bytes> { Empty::new() }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> std::io::Result<()> {
/// let room = Room::new(64, 16);
/// let builder = HttpServer::bind("127.0.0.1:0").await?
///     // A connection that makes room still counts until it has ended.
///     .connections(NonZeroUsize::new(4 * 64).expect("not zero"))
///     .room(&room);
/// let server = builder.serve_hyper(hyper::service::service_fn(move |request: Request<RequestBody>| {
///     let connection = request.extensions().get::<HttpConnection>();
///     let stay = connection.and_then(|connection| room.stay(connection));
///     async move {
///         let mut response = Response::new(Either::Left(Full::from("as many listen as may")));
///         match stay {
///             Some(stay) => *response.body_mut() = Either::Right(stay.body(events())),
///             None => *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE,
///         }
///         Ok::<_, Infallible>(response)
///     }
/// }));
/// # drop(server);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Room(Arc<Shared>);

struct Shared {
    most: usize,
    stays: usize,
    /// The connections in the room, the oldest first.
    guests: Mutex<Vec<Guest>>,
}

/// The number of the next connection that enters a room. All rooms share it, so that no room takes a connection of another
/// room for its own.
static NEXT: AtomicU64 = AtomicU64::new(0);

struct Guest {
    number: u64,
    peer: Peer,
    stays: usize,
    leave: Arc<Notify>,
}

impl Room {
    /// Creates a room for `most` connections. Among them there can be `stays` of [`Stay`] at a time, which should be
    /// fewer than `most`.
    pub fn new(most: usize, stays: usize) -> Self {
        Self(Arc::new(Shared {
            most,
            stays,
            guests: Mutex::default(),
        }))
    }

    /// Lets a connection stay, even if others need its place, until the returned [`Stay`] is dropped. Returns `None` if
    /// the room has as many stays as it may have, or if the connection has no place in the room.
    pub fn stay(&self, connection: &HttpConnection) -> Option<Stay> {
        self.stay_as(connection.link().guest?)
    }

    fn stay_as(&self, number: u64) -> Option<Stay> {
        let mut guests = self.guests();
        let stays: usize = guests.iter().map(|guest| guest.stays).sum();
        if stays >= self.0.stays {
            return None;
        }
        let guest = guests.iter_mut().find(|guest| guest.number == number)?;
        guest.stays += 1;
        drop(guests);
        let room = self.clone();
        Some(Stay { room, number })
    }

    /// Gives a connection a place in the room. If the room is full, tells another connection to leave.
    pub(crate) fn enter(&self, peer: &Peer) -> Entered {
        // The ordering is relaxed, because the numbers only have to differ.
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let leave = Arc::new(Notify::new());
        let guest = Guest {
            number,
            peer: peer.clone(),
            stays: 0,
            leave: Arc::clone(&leave),
        };
        let mut guests = self.guests();
        let leaving = (guests.len() >= self.0.most).then(|| victim(&guests));
        let leaving = leaving.flatten().map(|victim| guests.remove(victim));
        guests.push(guest);
        drop(guests);
        if let Some(guest) = leaving {
            // `notify_one` keeps a permit, so the other connection learns of this even if it does not wait in `leaves`
            // yet.
            guest.leave.notify_one();
        }
        let room = self.clone();
        Entered {
            room,
            number,
            leave,
        }
    }

    fn guests(&self) -> MutexGuard<'_, Vec<Guest>> {
        self.0.guests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Room")
            .field("most", &self.0.most)
            .field("connections", &self.guests().len())
            .finish_non_exhaustive()
    }
}

/// Returns the position of the connection that has to leave: of those without a [`Stay`], the oldest one of the IP
/// address with the most connections. A client that crowds the room has many connections from one address.
fn victim(guests: &[Guest]) -> Option<usize> {
    fn ip(guest: &Guest) -> Option<IpAddr> {
        match &guest.peer {
            Peer::Addr(address) => Some(address.ip()),
            _ => None,
        }
    }
    let of = |whose: Option<IpAddr>| guests.iter().filter(|guest| ip(guest) == whose).count();
    let can_leave = guests
        .iter()
        .enumerate()
        .filter(|(_, guest)| guest.stays == 0);
    // `max_by_key` returns the last of several equal elements. The order is reversed, so that this is the oldest
    // connection.
    let most = can_leave.rev().max_by_key(|(_, guest)| of(ip(guest)));
    most.map(|(at, _)| at)
}

/// The place of a connection in a [`Room`]. It is free again once this is dropped.
pub(crate) struct Entered {
    room: Room,
    number: u64,
    leave: Arc<Notify>,
}

impl Entered {
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Waits until the connection has to leave, to make room for another one.
    pub(crate) async fn leaves(&self) {
        self.leave.notified().await;
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        let mut guests = self.room.guests();
        guests.retain(|guest| guest.number != self.number);
    }
}

/// A guard that keeps a connection in its [`Room`] until the guard is dropped.
#[derive(Debug)]
#[must_use = "one that is dropped at once keeps nobody"]
pub struct Stay {
    room: Room,
    number: u64,
}

impl Stay {
    /// Wraps a response's body, so that the connection stays until the body is dropped.
    pub fn body<B>(self, body: B) -> StayBody<B> {
        StayBody { body, _stay: self }
    }
}

impl Drop for Stay {
    fn drop(&mut self) {
        let mut guests = self.room.guests();
        if let Some(guest) = guests.iter_mut().find(|guest| guest.number == self.number) {
            guest.stays = guest.stays.saturating_sub(1);
        }
    }
}

pin_project! {
    /// A response's body that holds a [`Stay`] until the body is dropped.
    #[derive(Debug)]
    pub struct StayBody<B> {
        #[pin]
        body: B,
        _stay: Stay,
    }
}

impl<B: Body> Body for StayBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        self.project().body.poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use futures_util::FutureExt as _;

    use super::*;

    fn enter(room: &Room, ip: u8, port: u16) -> Entered {
        let peer: SocketAddr = ([192, 0, 2, ip], port).into();
        room.enter(&peer.into())
    }

    fn must_leave(entered: &Entered) -> bool {
        entered.leaves().now_or_never().is_some()
    }

    #[test]
    fn a_connection_cannot_stay_in_a_room_of_other_connections() {
        let (one, other) = (Room::new(4, 4), Room::new(4, 4));
        let (here, there) = (enter(&one, 1, 1), enter(&other, 1, 1));
        assert!(one.stay_as(there.number).is_none());
        assert!(one.stay_as(here.number).is_some());
    }

    #[test]
    fn a_new_one_is_always_taken_in_and_the_oldest_of_the_client_with_most_leaves() {
        let room = Room::new(4, 1);
        let kubelet = enter(&room, 1, 1);
        let strangers: Vec<_> = (1..=3).map(|port| enter(&room, 2, port)).collect();
        let more = enter(&room, 2, 4);
        let scraper = enter(&room, 3, 1);
        let left: Vec<_> = strangers.iter().map(must_leave).collect();
        assert_eq!(left, [true, true, false]);
        for stays in [&kubelet, &more, &scraper] {
            assert!(!must_leave(stays));
        }
        drop(strangers);
        assert_eq!(room.guests().len(), 3);
    }

    #[test]
    fn those_that_stay_have_a_share_of_their_own() {
        let room = Room::new(3, 2);
        let (listens, silent) = (enter(&room, 1, 1), enter(&room, 1, 2));
        let stays = [room.stay_as(listens.number), room.stay_as(listens.number)];
        assert!(stays.iter().all(Option::is_some));
        assert!(room.stay_as(silent.number).is_none(), "there are two");
        let others: Vec<_> = (3..=9).map(|port| enter(&room, 1, port)).collect();
        assert!(!must_leave(&listens));
        drop(stays);
        assert!(room.stay_as(silent.number).is_none(), "it made room");
        assert!(room.stay_as(others[6].number).is_some());
        drop((listens, silent, others));
        assert!(room.guests().is_empty());
    }
}
