//! Sends a request to an upstream, and to another one if it may be repeated.

use std::pin::pin;
use std::sync::Arc;

use hyper::body::{Body as _, Incoming};
use hyper::header::{HOST, HeaderValue, TRANSFER_ENCODING};
use hyper::http::request::Parts;
use hyper::http::uri::{PathAndQuery, Scheme, Uri};
use hyper::{Method, Request, Response, Version};
use tokio::time::{Instant, sleep};
use tracing::debug;

use super::failure::Failure;
use super::{Answered, Inner};
use crate::config::Upstream;
use crate::inbound::activity::Activity;
use crate::inbound::body::Upload;
use crate::message::fault::Fault;
use crate::message::headers;
use crate::message::response;
use crate::routing::group::{Group, Pick};
use crate::upstream::failure::fault_of;
use crate::upstream::kept::Life;
use crate::upstream::member::Member;

impl Inner {
    /// Sends the request, and once more if it may be repeated: a kept connection
    /// can end while it is taken up, and where one upstream cannot be reached
    /// another may be.
    pub(super) async fn send(
        &self,
        parts: Parts,
        body: Upload,
        activity: &Activity,
        (group, wanted): (&Group, Option<Arc<Member>>),
    ) -> Result<Answered, Failure> {
        let again = may_repeat(&parts.method, &body).then(|| parts.clone());
        let to = (group, wanted.clone());
        let first = self.send_to_next(parts, body, activity, to).await;
        match (first, again) {
            (Err(failure), Some(parts)) if is_worth_another(failure.fault, group) => {
                let next = if failure.fault.is_of_connecting() {
                    wanted.and_then(|gone| group.next_after(&gone))
                } else {
                    wanted
                };
                self.send_to_next(parts, Upload::empty(), activity, (group, next))
                    .await
            }
            (result, _) => result,
        }
    }

    async fn send_to_next(
        &self,
        mut parts: Parts,
        body: Upload,
        activity: &Activity,
        (group, wanted): (&Group, Option<Arc<Member>>),
    ) -> Result<Answered, Failure> {
        let Some(Pick { member, ticket }) = group.pick_or(wanted) else {
            return Err(Failure::of(Fault::Unavailable, group));
        };
        let upstream = &member.upstream;
        readdress(&mut parts, upstream)?;
        if !upstream.is_http2() && !body.is_end_stream() && body.size_hint().exact().is_none() {
            // hyper takes a GET for one without a body unless it is told that there is one.
            let chunked = HeaderValue::from_static("chunked");
            parts.headers.insert(TRANSFER_ENCODING, chunked);
        }
        let request = Request::from_parts(parts, body);
        match self.attempt(upstream, request, activity).await {
            Ok(response) => {
                ticket.succeeded();
                Ok((response, member))
            }
            Err(fault) => {
                // What its client does says nothing of an upstream.
                if fault.is_of_upstream() {
                    ticket.failed();
                }
                Err(Failure::of(fault, upstream))
            }
        }
    }

    async fn attempt(
        &self,
        upstream: &Upstream,
        request: Request<Upload>,
        activity: &Activity,
    ) -> Result<Response<Incoming>, Fault> {
        let limit = self.rules.response_limit;
        let start = Instant::now();
        let is_whole = request.body().is_end_stream();
        let mut response = pin!(self.client.request(upstream, request));
        let mut timer = pin!(sleep(limit));
        loop {
            tokio::select! {
                biased;
                response = response.as_mut() => {
                    let response = response.map_err(|error| {
                        let cause: &dyn std::error::Error = &error;
                        debug!(cause, "the upstream did not answer");
                        fault_of(&error)
                    })?;
                    Life::served(response.extensions());
                    response::check_framing(&response)?;
                    return Ok(response);
                }
                () = timer.as_mut() => {
                    // The limit counts from the end of a request that takes long itself.
                    let sent = if is_whole { start } else { activity.last_byte() };
                    let due = sent + limit;
                    if due <= Instant::now() {
                        return Err(Fault::ResponseTimeout);
                    }
                    timer.as_mut().reset(due);
                }
            }
        }
    }
}

/// Addresses a request to `upstream`.
fn readdress(parts: &mut Parts, upstream: &Upstream) -> Result<(), Fault> {
    let authority = upstream.authority();
    if upstream.is_http2() {
        headers::for_http2(&mut parts.headers);
        parts.version = Version::HTTP_2;
    } else {
        if !parts.headers.contains_key(HOST) {
            let host = HeaderValue::try_from(authority.as_str());
            parts
                .headers
                .insert(HOST, host.map_err(|_| Fault::Unreachable)?);
        }
        parts.version = Version::HTTP_11;
    }
    let path = parts.uri.path_and_query().cloned();
    parts.uri = Uri::builder()
        .scheme(Scheme::HTTP)
        .authority(authority.clone())
        .path_and_query(path.unwrap_or_else(|| PathAndQuery::from_static("/")))
        .build()
        .map_err(|_| Fault::BadRequest("the target is not a path"))?;
    Ok(())
}

/// Safe methods, without a body that is gone once it was sent.
fn may_repeat(method: &Method, body: &Upload) -> bool {
    method.is_safe() && body.is_end_stream()
}

fn is_worth_another(fault: Fault, group: &Group) -> bool {
    fault == Fault::DiedIdle || (fault.is_of_connecting() && group.members().len() > 1)
}
