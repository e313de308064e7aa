//! The reasons why an upstream did not answer.

use std::error::Error;
use std::fmt;
use std::io;

use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use tower_service::Service;

use crate::message::fault::Fault;
use crate::upstream::kept::Life;

pub(super) type ConnectError = <HttpConnector as Service<hyper::Uri>>::Error;

/// The reason why a request got no response.
#[derive(Debug)]
pub enum RequestError {
    /// The request's target cannot be written for the upstream.
    Target(hyper::http::Error),
    /// The response did not come in time.
    Late,
    /// The upstream could not be connected to.
    Connect(ConnectError),
    /// The connection in HTTP/1.1 failed before the response.
    Http1 {
        /// hyper's error.
        error: hyper::Error,
        /// Whether the connection had served an earlier request, and ended without a byte of this
        /// response.
        died_idle: bool,
    },
    /// hyper-util's client for HTTP/2 returned this error.
    Http2(legacy::Error),
    /// The pool is closed, because the process is about to end.
    Closed,
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Target(error) => error.fmt(f),
            Self::Late => f.write_str("it did not answer in time"),
            Self::Connect(error) => error.fmt(f),
            Self::Http1 { error, .. } => error.fmt(f),
            Self::Http2(error) => error.fmt(f),
            Self::Closed => f.write_str("the pool is closed"),
        }
    }
}

impl Error for RequestError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Target(error) => error.source(),
            Self::Late | Self::Closed => None,
            Self::Connect(error) => error.source(),
            Self::Http1 { error, .. } => error.source(),
            Self::Http2(error) => error.source(),
        }
    }
}

impl RequestError {
    /// Returns the fault that is reported to the client.
    #[must_use]
    pub fn fault(&self) -> Fault {
        match self {
            Self::Target(_) => Fault::BadRequest("the target is not a path"),
            Self::Late => Fault::ResponseTimeout,
            Self::Connect(error) => fault_of_connecting(error),
            Self::Http1 { error, died_idle } => fault_of_http(error, *died_idle),
            Self::Closed => Fault::Unavailable,
            Self::Http2(error) if error.is_connect() => fault_of_connecting(error),
            Self::Http2(error) => fault_of_http(error, Life::died_idle_with(error.connect_info())),
        }
    }
}

fn fault_of_http(error: &(dyn Error + 'static), died_idle: bool) -> Fault {
    let of_http = || causes(error).filter_map(|cause| cause.downcast_ref::<hyper::Error>());
    if of_http().any(hyper::Error::is_user) {
        return Fault::BrokenOff;
    }
    let unreadable = of_http()
        .any(|error| error.is_parse() || error.is_parse_too_large() || error.is_parse_status());
    if unreadable {
        return Fault::BadResponse;
    }
    if died_idle {
        return Fault::DiedIdle;
    }
    Fault::Terminated
}

fn fault_of_connecting(error: &(dyn Error + 'static)) -> Fault {
    let io = causes(error)
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .last();
    match io.map(io::Error::kind) {
        Some(io::ErrorKind::TimedOut) => Fault::ConnectTimeout,
        Some(io::ErrorKind::ConnectionRefused) => Fault::Refused,
        _ if causes(error).any(|cause| cause.to_string() == "dns error") => Fault::UnknownHost,
        _ => Fault::Unreachable,
    }
}

fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| error.source())
}
