//! Sockets that a service manager has opened (sd_listen_fds(3)).

use std::env;
use std::fmt;
use std::io;
use std::net::TcpListener;

use listenfd::ListenFd;
use rustix::net::sockopt::socket_acceptconn;

use super::{Role, Socket};

const NAMES: &str = "LISTEN_FDNAMES";

/// The name that a service manager passes for a socket without a name.
const NAMELESS: &str = "unknown";

/// The reason why a service manager's socket cannot be used.
#[derive(Debug)]
pub struct ActivationError {
    name: String,
    fault: Fault,
}

#[derive(Debug)]
enum Fault {
    Name,
    NotListening,
    Unusable(io::Error),
}

impl fmt::Display for ActivationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, fault } = self;
        write!(f, "the service manager's socket `{name}` cannot be used: ")?;
        match fault {
            Fault::Name => f.write_str(
                "its name says what it is for, which is `http`, `tls` or `admin`; \
                 in a socket unit, FileDescriptorName= gives it",
            ),
            Fault::NotListening => f.write_str("it does not listen"),
            Fault::Unusable(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ActivationError {}

/// Takes the sockets that the environment announces.
pub(super) fn sockets() -> Result<Vec<Socket>, ActivationError> {
    // Read before the variables are removed. A name that is not UTF-8 must not count as missing.
    let names = env::var_os(NAMES).map(|names| names.to_string_lossy().into_owned());
    let mut passed = ListenFd::from_env();
    let mut names = names.iter().flat_map(|names| names.split(':'));
    let mut sockets = Vec::with_capacity(passed.len());
    for place in 0..passed.len() {
        let name = names.next().unwrap_or(NAMELESS);
        let socket = socket(name, passed.take_tcp_listener(place));
        sockets.extend(socket.map_err(|fault| ActivationError {
            name: name.to_owned(),
            fault,
        })?);
    }
    Ok(sockets)
}

fn socket(name: &str, listener: io::Result<Option<TcpListener>>) -> Result<Option<Socket>, Fault> {
    let role = match name {
        NAMELESS => Role::Http,
        name => Role::named(name).ok_or(Fault::Name)?,
    };
    let Some(listener) = listener.map_err(Fault::Unusable)? else {
        return Ok(None);
    };
    let listens = socket_acceptconn(&listener).map_err(io::Error::from);
    if !listens.map_err(Fault::Unusable)? {
        return Err(Fault::NotListening);
    }
    Ok(Some(Socket {
        role,
        asked: None,
        address: listener.local_addr().map_err(Fault::Unusable)?,
        descriptor: listener.into(),
    }))
}
