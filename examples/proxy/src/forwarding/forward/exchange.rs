//! Exchanges: pairs of a request and its response. Each exchange is counted in the metrics and
//! recorded on the traffic tape when it ends. It ends once the response's last byte was handed to
//! the client's connection, or when that has become impossible.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::SystemTime;

use hyper::body::{Body, Frame, SizeHint};
use hyper::{Method, Request, Response, StatusCode, Uri, Version};
use lifecycle_proxy_feeds::events::Events;
use lifecycle_proxy_records::tape::Entry;
use lifecycle_runtime::BoxError;
use tokio::time::Instant;

use super::{Accounting, Forward};
use crate::forwarding::content::Content;
use crate::inbound::server::Served;
use crate::message::backlog::{Backlog, Piece};

/// A request that is being answered. Dropping it counts and records the exchange.
#[derive(Debug)]
pub(super) struct Exchange {
    served: Arc<Served<Forward>>,
    started: Instant,
    is_head: bool,
    /// The values for the traffic tape, if there is one. They are boxed, since the exchange is
    /// moved often and mostly has none.
    noted: Option<Box<Noted>>,
    status: Option<StatusCode>,
    bytes: u64,
    complete: bool,
}

/// The parts of a request that the traffic tape records.
#[derive(Debug)]
struct Noted {
    time: SystemTime,
    client: SocketAddr,
    method: Method,
    uri: Uri,
}

impl Exchange {
    /// Begins an exchange when the head of `request` has arrived.
    pub(super) fn begin<B>(served: Arc<Served<Forward>>, request: &Request<B>) -> Self {
        let Served { handler, link } = &*served;
        let accounting = &handler.0.accounting;
        accounting.metrics.request_began();
        let noted = accounting.recorder.as_ref().map(|_| {
            Box::new(Noted {
                time: SystemTime::now(),
                client: link.peer,
                method: request.method().clone(),
                uri: request.uri().clone(),
            })
        });
        Self {
            started: link.connection.last_byte(),
            is_head: request.method() == Method::HEAD,
            noted,
            status: None,
            bytes: 0,
            complete: false,
            served,
        }
    }

    /// Returns the connection that the request came by, and the handler that answers it.
    pub(super) fn served(&self) -> &Served<Forward> {
        &self.served
    }

    /// Adds the response to the exchange. `version` is that of the request. The exchange then ends when the response's body is
    /// dropped.
    pub(super) fn answer(
        mut self,
        response: Response<Content>,
        version: Version,
    ) -> Response<Download> {
        self.status = Some(response.status());
        // The response to a HEAD request is complete at once, since it has no body.
        self.complete = self.is_head;
        let events = Events::of(&response, self.served.link.connection.connection());
        response.map(|body| Download {
            body,
            events,
            backlog: None,
            is_h2: version == Version::HTTP_2,
            exchange: self,
        })
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        let Accounting { metrics, recorder } = &self.served.handler.0.accounting;
        let duration = self.started.elapsed();
        metrics.request_ended(self.status, self.bytes, self.complete, duration);
        if let (Some(recorder), Some(noted)) = (recorder, &self.noted) {
            recorder.record(&Entry {
                time: noted.time,
                client: noted.client,
                method: noted.method.as_str(),
                path: noted.uri.path_and_query().map_or("*", |path| path.as_str()),
                status: self.status.map(|status| status.as_u16()),
                duration,
                bytes: self.bytes,
                complete: self.complete,
            });
        }
    }
}

/// A response's body on its way to the client.
#[derive(Debug)]
pub struct Download {
    body: Content,
    events: Option<Events>,
    /// The bytes that the client has yet to take, over HTTP/1.1. `None` until there is more than one
    /// piece.
    backlog: Option<Backlog>,
    /// Whether the client speaks HTTP/2, where hyper has a bound for the backlog of each stream.
    is_h2: bool,
    exchange: Exchange,
}

impl Body for Download {
    type Data = Piece;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Piece>, BoxError>>> {
        let this = &mut *self;
        let end = this.events.as_mut().map(|events| events.poll_end(cx));
        let frame = match end {
            Some(Poll::Ready(words)) => words.map(|words| Ok(Frame::data(words))),
            _ => {
                if let Some(backlog) = &this.backlog {
                    ready!(backlog.poll_room(cx));
                }
                ready!(Pin::new(&mut this.body).poll_frame(cx))
            }
        };
        match &frame {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    this.exchange.bytes += data.len() as u64;
                    if let Some(events) = &mut this.events {
                        events.pass(data);
                    }
                }
            }
            Some(Err(_)) => {}
            None => this.exchange.complete = true,
        }
        let is_last = this.is_h2 || this.body.is_end_stream();
        let backlog = &mut this.backlog;
        let piece = |bytes| match is_last {
            true => Piece::from(bytes),
            false => backlog.get_or_insert_default().hold(bytes),
        };
        Poll::Ready(frame.map(|frame| frame.map(|frame| frame.map_data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        // The server drops a body of known length after its last byte, without a poll that returns
        // the end.
        self.exchange.complete |= self.body.is_end_stream();
    }
}
