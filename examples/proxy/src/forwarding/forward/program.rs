//! Answers a request with the output of a program.

use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{Method, Request, StatusCode};
use lifecycle_proxy_programs::message::Call;
use lifecycle_proxy_programs::{self as programs, StdioClient};
use tracing::debug;

use super::Passed;
use super::events::{empty, last_event, stream};
use super::failure::Failure;
use crate::forwarding::content::Content;
use crate::inbound::body::Upload;
use crate::message::fault::{Fault, plain};

/// The header field with the name of the session that a request belongs to. The response to the
/// first request of a session has it, too.
const SESSION: HeaderName = HeaderName::from_static("mcp-session-id");

/// Passes a request to a program and returns the program's answer. The request's body is held in
/// memory, up to its size limit, since a message is sent as one line. No other request's body is
/// held in memory.
pub(super) async fn call(
    request: Request<Upload>,
    program: &StdioClient,
) -> Result<Passed, Failure> {
    let session = request
        .headers()
        .get(SESSION)
        .filter(|_| program.has_sessions());
    let session = session.map(|name| name.to_str().unwrap_or_default().to_owned());
    match (request.method(), session) {
        (&Method::DELETE, Some(session)) => {
            let ended = program.end(&session).await;
            ended
                .then(|| empty(StatusCode::NO_CONTENT))
                .ok_or(Fault::NoSession.into())
        }
        (&Method::GET, Some(session)) => {
            let events = program.listen(&session, last_event(&request)).await;
            events.map(stream).map_err(|_| Fault::NoSession.into())
        }
        (&Method::POST, session) => {
            let message = message(request, program).await?;
            answer(message, session, program).await
        }
        _ => Err(Fault::PostOnly.into()),
    }
}

async fn message(request: Request<Upload>, program: &StdioClient) -> Result<Call, Fault> {
    let body = Limited::new(request.into_body(), program.longest());
    let body = body.collect().await.map_err(|error| {
        if error.is::<LengthLimitError>() {
            Fault::TooLarge
        } else {
            Fault::BadRequest("the body did not arrive")
        }
    })?;
    Call::read(&body.to_bytes()).map_err(Fault::BadRequest)
}

async fn answer(
    message: Call,
    session: Option<String>,
    program: &StdioClient,
) -> Result<Passed, Failure> {
    let mut begun = None;
    let answer = match session {
        Some(session) => program.call_in(&session, &message).await,
        None if message.is_initialize() && program.has_sessions() => {
            program.begin(&message).await.map(|(session, answer)| {
                begun = Some(session);
                answer
            })
        }
        None => program.call(&message).await,
    };
    let answer = answer.map_err(|failure| {
        debug!(?program, %failure, "the program did not answer");
        let fault = match failure {
            programs::Failure::Unstarted(_) => Fault::Unstarted,
            programs::Failure::Broken(_) => Fault::Terminated,
            programs::Failure::Late => Fault::ResponseTimeout,
            programs::Failure::Closed | programs::Failure::Full => Fault::Unavailable,
            programs::Failure::NoSession => Fault::NoSession,
        };
        Failure::of(fault, program)
    })?;
    let mut response = match answer {
        None => empty(StatusCode::ACCEPTED),
        Some(answer) => {
            let mut response = plain(StatusCode::OK, answer);
            let json = HeaderValue::from_static("application/json");
            response.headers_mut().insert(CONTENT_TYPE, json);
            response.map(Content::Own)
        }
    };
    if let Some(Ok(session)) = begun.map(HeaderValue::try_from) {
        response.headers_mut().insert(SESSION, session);
    }
    Ok(response)
}
