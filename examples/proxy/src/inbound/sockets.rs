//! Listening sockets: those that were there before this process, and those that
//! it listens on, which it may hand on to another one.

mod activation;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use lifecycle_runtime::ShutdownHandle;
use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, UdpSocket};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::inbound::listener::{self, BindError};

pub use activation::ActivationError;

/// The purpose of a socket.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Clients that speak HTTP.
    Http,
    /// Clients that speak TLS.
    Tls,
    /// Operators and probes.
    Admin,
    /// Other proxies, which send datagrams.
    Peers,
}

impl Role {
    /// The roles that a service manager may open sockets for.
    const OPENED: [Self; 3] = [Self::Http, Self::Tls, Self::Admin];

    const fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Tls => "tls",
            Self::Admin => "admin",
            Self::Peers => "peers",
        }
    }

    fn named(name: &str) -> Option<Self> {
        Self::OPENED.into_iter().find(|role| role.name() == name)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A socket that this process has not made.
#[derive(Debug)]
pub struct Socket {
    /// The purpose.
    pub role: Role,
    /// The address that was asked for when it was made, as the port may have been
    /// any. None: a service manager made it, and it stands for what is configured.
    pub asked: Option<SocketAddr>,
    /// The address it listens on.
    pub address: SocketAddr,
    /// The socket itself.
    pub descriptor: OwnedFd,
}

/// Sockets that were there before this process.
#[derive(Debug, Default)]
pub struct Given {
    sockets: Vec<Socket>,
    /// Another process accepts from them too, until this one is ready.
    shared: bool,
}

impl Given {
    /// Takes the sockets that a predecessor hands over.
    #[must_use]
    pub const fn by_predecessor(sockets: Vec<Socket>) -> Self {
        Self {
            sockets,
            shared: true,
        }
    }

    /// Takes the sockets that a service manager has opened (sd_listen_fds(3)), by their names:
    /// `http`, `tls`, `admin`. Without names all are `http`.
    ///
    /// It takes them, and the variables that tell of them; so it is for the
    /// beginning of a program, before there are threads.
    ///
    /// # Errors
    ///
    /// When one has another name, or is no listening TCP socket.
    pub fn by_manager() -> Result<Self, ActivationError> {
        Ok(Self {
            sockets: activation::sockets()?,
            shared: false,
        })
    }

    /// Returns whether another process accepts from them too, until this one is ready.
    #[must_use]
    pub const fn is_shared(&self) -> bool {
        self.shared
    }

    /// Returns whether there is a socket for this role.
    #[must_use]
    pub fn has(&self, role: Role) -> bool {
        self.sockets.iter().any(|socket| socket.role == role)
    }

    fn of_manager(&mut self, role: Role) -> Vec<Socket> {
        self.sockets
            .extract_if(.., |socket| socket.role == role && socket.asked.is_none())
            .collect()
    }

    fn for_address(&mut self, role: Role, asked: SocketAddr) -> Option<Socket> {
        let place = self
            .sockets
            .iter()
            .position(|socket| socket.role == role && socket.asked == Some(asked))?;
        Some(self.sockets.remove(place))
    }
}

impl Drop for Given {
    /// Closes the sockets that the configuration has no use for.
    fn drop(&mut self) {
        for socket in &self.sockets {
            let Socket { role, address, .. } = socket;
            warn!(%role, %address, "a socket that was given is not used");
        }
    }
}

/// A socket that this process listens on.
#[derive(Debug)]
pub struct Listener<T = TcpListener> {
    /// The socket itself.
    pub socket: Arc<T>,
    /// The address it listens on.
    pub address: SocketAddr,
}

/// The sockets that this process listens on. A cheap clone.
#[derive(Clone, Debug, Default)]
pub struct Listening(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    kept: Mutex<Vec<Kept>>,
    /// Cancelled: another process accepts.
    left: CancellationToken,
    /// The next request of a client should come by another connection. Beside the
    /// token since it is asked for with every response.
    parting: AtomicBool,
}

/// A socket that is the accept loop's: what is kept here does not keep it open.
#[derive(Debug)]
struct Kept {
    role: Role,
    asked: Option<SocketAddr>,
    address: SocketAddr,
    socket: Weak<dyn Open>,
}

trait Open: AsFd + fmt::Debug + Send + Sync {}

impl<T: AsFd + fmt::Debug + Send + Sync> Open for T {}

impl Listening {
    /// Listens on sockets that are given, and on the addresses that none is given
    /// for. Those of a service manager stand for all addresses.
    ///
    /// # Errors
    ///
    /// When an address cannot be listened on.
    pub async fn listen(
        &self,
        given: &mut Given,
        role: Role,
        addresses: &[SocketAddr],
    ) -> Result<Vec<Listener>, BindError> {
        let made = given.of_manager(role);
        let mut listeners = Vec::new();
        if made.is_empty() {
            for &asked in addresses {
                let (socket, address) = match given.for_address(role, asked) {
                    Some(socket) => listener::adopt(socket.descriptor, asked)?,
                    None => listener::bind(asked).await?,
                };
                listeners.push(self.keep(role, Some(asked), socket, address));
            }
        }
        for Socket {
            descriptor,
            address,
            ..
        } in made
        {
            let (socket, address) = listener::adopt(descriptor, address)?;
            info!(%address, %role, "the service manager listens on this address");
            listeners.push(self.keep(role, None, socket, address));
        }
        Ok(listeners)
    }

    /// Takes datagrams of peers by a socket that is given, or else at `asked`.
    ///
    /// # Errors
    ///
    /// When the address cannot be listened on.
    pub async fn listen_to_peers(
        &self,
        given: &mut Given,
        asked: SocketAddr,
    ) -> Result<Listener<UdpSocket>, BindError> {
        let (socket, address) = match given.for_address(Role::Peers, asked) {
            Some(socket) => listener::adopt_datagrams(socket.descriptor, asked)?,
            None => listener::bind_datagrams(asked).await?,
        };
        Ok(self.keep(Role::Peers, Some(asked), socket, address))
    }

    fn keep<T: Open + 'static>(
        &self,
        role: Role,
        asked: Option<SocketAddr>,
        socket: T,
        address: SocketAddr,
    ) -> Listener<T> {
        let socket = Arc::new(socket);
        let kept: Weak<T> = Arc::downgrade(&socket);
        self.kept().push(Kept {
            role,
            asked,
            address,
            socket: kept,
        });
        Listener { socket, address }
    }

    /// Duplicates the descriptor of each socket.
    ///
    /// # Errors
    ///
    /// When there are too many open files.
    pub fn duplicates(&self) -> io::Result<Vec<Socket>> {
        let mut sockets = Vec::new();
        for kept in self.kept().iter() {
            let Some(socket) = kept.socket.upgrade() else {
                continue;
            };
            sockets.push(Socket {
                role: kept.role,
                asked: kept.asked,
                address: kept.address,
                descriptor: socket.as_fd().try_clone_to_owned()?,
            });
        }
        Ok(sockets)
    }

    /// Another process accepts from now on; clients that are connected are asked
    /// to connect again.
    pub fn leave(&self) {
        self.part();
        self.0.left.cancel();
    }

    /// Cancelled once another process accepts.
    #[must_use]
    pub fn left(&self) -> CancellationToken {
        self.0.left.clone()
    }

    /// Returns whether the next request of a client should come by another connection.
    #[must_use]
    pub fn is_parting(&self) -> bool {
        // Relaxed: nothing is published through it.
        self.0.parting.load(Ordering::Relaxed)
    }

    /// From the first moment of a shutdown on clients are asked to connect again,
    /// elsewhere if there is a lame duck.
    pub async fn part_with(self, handle: ShutdownHandle) {
        handle.requested().await;
        self.part();
    }

    fn part(&self) {
        self.0.parting.store(true, Ordering::Relaxed);
    }

    fn kept(&self) -> MutexGuard<'_, Vec<Kept>> {
        self.0.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
