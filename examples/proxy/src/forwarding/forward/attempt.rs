//! Sends a request to an upstream. If that fails and the request may be repeated, sends it once
//! more.

use std::sync::Arc;

use hyper::body::Body as _;
use hyper::{Request, Response};
use lifecycle_http::HttpConnection;
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
    /// Sends a request, and once more if it may be repeated. An idle connection may end just when
    /// the request is sent. And if one upstream cannot be reached, another member of the group may
    /// be reachable.
    pub(super) async fn send<'a>(
        &self,
        request: &mut Request<Upload>,
        connection: &HttpConnection,
        (group, wanted): (&'a Group, Option<&'a Arc<Member>>),
    ) -> Result<Answered<'a>, Failure> {
        let again = may_repeat(request).then(|| copy_of(request));
        let to = (group, wanted);
        let first = self.send_to_next(request, connection, to).await;
        match (first, again) {
            (Err(failure), Some(mut again)) if is_worth_another(failure.fault, group) => {
                let next = if failure.fault.is_of_connecting() {
                    wanted.and_then(|gone| group.next_after(gone))
                } else {
                    wanted
                };
                Box::pin(self.send_to_next(&mut again, connection, (group, next))).await
            }
            (result, _) => result,
        }
    }

    async fn send_to_next<'a>(
        &self,
        request: &mut Request<Upload>,
        connection: &HttpConnection,
        (group, wanted): (&'a Group, Option<&'a Arc<Member>>),
    ) -> Result<Answered<'a>, Failure> {
        let Some(Pick { member, ticket }) = group.pick_or(wanted) else {
            return Err(Failure::of(Fault::Unavailable, group));
        };
        interim::pass_on(request, connection);
        match self.attempt(member, request, connection).await {
            Ok(response) => {
                ticket.succeeded();
                Ok((response, member))
            }
            Err(fault) => {
                // A fault of the client is not counted as a failure of the upstream.
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
        request: &mut Request<Upload>,
        connection: &HttpConnection,
    ) -> Result<Response<ResponseBody>, Fault> {
        let limit = self.rules.response_limit;
        let start = connection.last_byte();
        let is_whole = request.body().is_end_stream();
        // The limit counts from the last byte of the request, since a client may take long to send
        // the request.
        let due = || {
            let sent = if is_whole {
                start
            } else {
                connection.last_byte()
            };
            sent + limit
        };
        let to = (&member.upstream, &member.idle);
        let asked = self.client.request(to, request, start, due);
        let response = asked.await.map_err(|error| {
            let cause: &dyn std::error::Error = &error;
            debug!(cause, "the upstream did not answer");
            error.fault()
        })?;
        response::check_framing(&response)?;
        Ok(response)
    }
}

/// Copies a request that has no body, without its extensions, since a second attempt needs none of
/// them.
fn copy_of(request: &Request<Upload>) -> Request<Upload> {
    let mut copy = Request::new(Upload::empty());
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.version_mut() = request.version();
    *copy.headers_mut() = request.headers().clone();
    copy
}

/// Returns whether a request may be sent twice: its method is safe, and it has no body.
fn may_repeat(request: &Request<Upload>) -> bool {
    request.method().is_safe() && request.body().is_end_stream()
}

fn is_worth_another(fault: Fault, group: &Group) -> bool {
    fault == Fault::DiedIdle || (fault.is_of_connecting() && group.members().len() > 1)
}
