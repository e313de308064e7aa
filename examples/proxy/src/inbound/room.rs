//! Room for those who ask a server briefly, whatever others do there.
//!
//! A connection that is in no stream of events makes room for a new one: the oldest of
//! the client that has the most. And streams never have all the room. So silent clients,
//! slow ones and listeners keep nobody out, and a probe is answered.

use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use hyper::body::{Body, Frame, SizeHint};
use lifecycle_runtime::Connection;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use crate::inbound::activity::Limits;
use crate::inbound::connection::{End, Handler, Serve};

/// The connections of a server, as far as they take room. A cheap clone.
#[derive(Clone, Debug)]
pub struct Room(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    most: usize,
    streams: usize,
    /// The oldest first.
    guests: Mutex<Vec<Guest>>,
}

#[derive(Debug)]
struct Guest {
    peer: SocketAddr,
    streams: usize,
    leave: CancellationToken,
}

impl Room {
    /// Room for `most` connections, and for so many `streams` among them, which are fewer.
    #[must_use]
    pub fn new(most: usize, streams: usize) -> Self {
        let guests = Mutex::default();
        Self(Arc::new(Shared {
            most,
            streams,
            guests,
        }))
    }

    /// Takes a connection in, and has another one leave if there are too many.
    fn enter(&self, peer: SocketAddr) -> Entered {
        let leave = CancellationToken::new();
        let guest = Guest {
            peer,
            streams: 0,
            leave: leave.clone(),
        };
        let mut guests = self.guests();
        if guests.len() >= self.0.most
            && let Some(victim) = victim(&guests)
        {
            guests.remove(victim).leave.cancel();
        }
        guests.push(guest);
        drop(guests);
        let room = self.clone();
        Entered { room, peer, leave }
    }

    /// Lets the connection of `peer` begin a stream; none if there are as many as may be.
    #[must_use]
    pub fn stream(&self, peer: SocketAddr) -> Option<Stream> {
        let mut guests = self.guests();
        let streams: usize = guests.iter().map(|guest| guest.streams).sum();
        if streams >= self.0.streams {
            return None;
        }
        let guest = guests.iter_mut().find(|guest| guest.peer == peer)?;
        guest.streams += 1;
        drop(guests);
        let room = self.clone();
        Some(Stream { room, peer })
    }

    fn guests(&self) -> MutexGuard<'_, Vec<Guest>> {
        self.0.guests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Which one makes room: strangers are many on an address of their own, so it is theirs.
fn victim(guests: &[Guest]) -> Option<usize> {
    let of = |ip: IpAddr| guests.iter().filter(|guest| guest.peer.ip() == ip).count();
    let can_leave = guests
        .iter()
        .enumerate()
        .filter(|(_, guest)| guest.streams == 0);
    // The first of those with the most, by the order of a maximum that is reversed.
    let most = can_leave.rev().max_by_key(|(_, guest)| of(guest.peer.ip()));
    most.map(|(at, _)| at)
}

struct Entered {
    room: Room,
    peer: SocketAddr,
    leave: CancellationToken,
}

impl Drop for Entered {
    fn drop(&mut self) {
        // One that made room is gone already, and its address may be another's by now.
        if !self.leave.is_cancelled() {
            let mut guests = self.room.guests();
            guests.retain(|guest| guest.peer != self.peer);
        }
    }
}

/// A stream that has its place until it is dropped.
#[derive(Debug)]
pub struct Stream {
    room: Room,
    peer: SocketAddr,
}

impl Drop for Stream {
    fn drop(&mut self) {
        let mut guests = self.room.guests();
        if let Some(guest) = guests.iter_mut().find(|guest| guest.peer == self.peer) {
            guest.streams = guest.streams.saturating_sub(1);
        }
    }
}

/// A body, and the place of its stream.
#[derive(Debug)]
pub struct Placed<B> {
    body: B,
    _place: Stream,
}

impl<B> Placed<B> {
    /// `body` has `place` until it ends.
    pub const fn new(body: B, place: Stream) -> Self {
        Self {
            body,
            _place: place,
        }
    }
}

impl<B: Body + Unpin> Body for Placed<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Serves HTTP in a room.
#[derive(Clone, Debug)]
pub struct Roomed<H> {
    /// Answers.
    pub handler: H,
    /// Where its connections are.
    pub room: Room,
}

impl<H: Handler> Serve for Roomed<H> {
    async fn serve(
        self,
        stream: TcpStream,
        addresses: (SocketAddr, SocketAddr),
        limits: Limits,
        connection: Connection,
    ) -> End {
        let entered = self.room.enter(addresses.0);
        let served = self.handler.serve(stream, addresses, limits, connection);
        tokio::select! {
            biased;
            () = entered.leave.cancelled() => End::Expired,
            end = served => end,
        }
    }

    fn admits(&self) -> bool {
        Handler::admits(&self.handler)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ip: u8, port: u16) -> SocketAddr {
        ([192, 0, 2, ip], port).into()
    }

    #[test]
    fn a_new_one_is_always_taken_in_and_the_oldest_of_the_client_with_most_leaves() {
        let room = Room::new(4, 1);
        let kubelet = room.enter(at(1, 1));
        let strangers: Vec<_> = (1..=3).map(|port| room.enter(at(2, port))).collect();
        let more = room.enter(at(2, 4));
        let scraper = room.enter(at(3, 1));
        let left: Vec<_> = strangers
            .iter()
            .map(|guest| guest.leave.is_cancelled())
            .collect();
        assert_eq!(left, [true, true, false]);
        for stays in [&kubelet, &more, &scraper] {
            assert!(!stays.leave.is_cancelled());
        }
        drop(strangers);
        assert_eq!(room.guests().len(), 3);
    }

    #[test]
    fn streams_stay_and_have_a_share_of_their_own() {
        let room = Room::new(3, 2);
        let (listens, _silent) = (room.enter(at(1, 1)), room.enter(at(1, 2)));
        let streams = [room.stream(at(1, 1)), room.stream(at(1, 1))];
        assert!(streams.iter().all(Option::is_some));
        assert!(room.stream(at(1, 2)).is_none(), "there are two");
        let others: Vec<_> = (3..=9).map(|port| room.enter(at(1, port))).collect();
        assert!(!listens.leave.is_cancelled());
        drop(streams);
        assert!(room.stream(at(1, 2)).is_none(), "it made room");
        assert!(room.stream(at(1, 9)).is_some());
        drop((listens, others));
        assert!(room.guests().is_empty());
    }
}
