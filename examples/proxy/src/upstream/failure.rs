//! What the client of the upstreams calls an error, as the fault that it is here.

use std::error::Error;
use std::io;

use hyper_util::client::legacy;

use crate::message::fault::Fault;
use crate::upstream::kept::Life;

/// What kept `error`, from the upstream's client, from being a response.
#[must_use]
pub fn fault_of(error: &legacy::Error) -> Fault {
    if error.is_connect() {
        return fault_of_connecting(error);
    }
    let of_http = || causes(error).filter_map(|cause| cause.downcast_ref::<hyper::Error>());
    if of_http().any(hyper::Error::is_user) {
        return Fault::BrokenOff;
    }
    let unreadable = of_http()
        .any(|error| error.is_parse() || error.is_parse_too_large() || error.is_parse_status());
    if unreadable {
        return Fault::BadResponse;
    }
    if Life::died_idle(error.connect_info()) {
        return Fault::DiedIdle;
    }
    Fault::Terminated
}

fn fault_of_connecting(error: &legacy::Error) -> Fault {
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
