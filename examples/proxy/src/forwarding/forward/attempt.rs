//! Sends a request to an upstream, and to another one if it may be repeated.

use std::sync::Arc;

use hyper::body::Body as _;
use hyper::http::request::Parts;
use hyper::{Method, Request, Response};
use lifecycle_http::HttpConnection;
use tokio::time::Instant;
use tracing::debug;

use super::failure::Failure;
use super::{Answered, Inner};
use crate::inbound::body::Upload;
use crate::inbound::interim;
use crate::message::fault::Fault;
use crate::message::response;
use crate::routing::group::{Group, Pick};
use crate::upstream::body::ResponseBody;
use crate::upstream::member::Member;

impl Inner {
    /// Sends the request, and once more if it may be repeated: a kept connection
    /// can end while it is taken up, and where one upstream cannot be reached
    /// another may be.
    pub(super) async fn send(
        &self,
        parts: Parts,
        body: Upload,
        connection: &HttpConnection,
        (group, wanted): (&Group, Option<Arc<Member>>),
    ) -> Result<Answered, Failure> {
        let again = may_repeat(&parts.method, &body).then(|| copy_of(&parts));
        let to = (group, wanted.clone());
        let first = self.send_to_next(parts, body, connection, to).await;
        match (first, again) {
            (Err(failure), Some(parts)) if is_worth_another(failure.fault, group) => {
                let next = if failure.fault.is_of_connecting() {
                    wanted.and_then(|gone| group.next_after(&gone))
                } else {
                    wanted
                };
                self.send_to_next(parts, Upload::empty(), connection, (group, next))
                    .await
            }
            (result, _) => result,
        }
    }

    async fn send_to_next(
        &self,
        parts: Parts,
        body: Upload,
        connection: &HttpConnection,
        (group, wanted): (&Group, Option<Arc<Member>>),
    ) -> Result<Answered, Failure> {
        let Some(Pick { member, ticket }) = group.pick_or(wanted) else {
            return Err(Failure::of(Fault::Unavailable, group));
        };
        let mut request = Request::from_parts(parts, body);
        interim::pass_on(&mut request, connection);
        match self.attempt(&member, request, connection).await {
            Ok(response) => {
                ticket.succeeded();
                Ok((response, member))
            }
            Err(fault) => {
                // What its client does says nothing of an upstream.
                if fault.is_of_upstream() {
                    ticket.failed();
                }
                Err(Failure::of(fault, &member.upstream))
            }
        }
    }

    async fn attempt(
        &self,
        member: &Member,
        request: Request<Upload>,
        connection: &HttpConnection,
    ) -> Result<Response<ResponseBody>, Fault> {
        let limit = self.rules.response_limit;
        let start = Instant::now();
        let is_whole = request.body().is_end_stream();
        // The limit counts from the end of a request that takes long itself.
        let due = || {
            let sent = if is_whole {
                start
            } else {
                connection.last_byte()
            };
            sent + limit
        };
        let asked = self
            .client
            .request(&member.upstream, &member.idle, request, due);
        let response = asked.await.map_err(|error| {
            let cause: &dyn std::error::Error = &error;
            debug!(cause, "the upstream did not answer");
            error.fault()
        })?;
        response::check_framing(&response)?;
        Ok(response)
    }
}

/// Copies a head, without its extensions: it has none that another attempt needs.
fn copy_of(parts: &Parts) -> Parts {
    let (mut copy, ()) = Request::new(()).into_parts();
    copy.method = parts.method.clone();
    copy.uri = parts.uri.clone();
    copy.version = parts.version;
    copy.headers = parts.headers.clone();
    copy
}

/// Safe methods, without a body that is gone once it was sent.
fn may_repeat(method: &Method, body: &Upload) -> bool {
    method.is_safe() && body.is_end_stream()
}

fn is_worth_another(fault: Fault, group: &Group) -> bool {
    fault == Fault::DiedIdle || (fault.is_of_connecting() && group.members().len() > 1)
}
