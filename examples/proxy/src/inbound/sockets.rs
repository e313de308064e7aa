//! Listening sockets. This process inherits them or opens them, and a new process may inherit them.

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
    /// The socket accepts HTTP clients.
    Http,
    /// The socket accepts TLS clients.
    Tls,
    /// The socket belongs to the admin listener.
    Admin,
    /// The socket receives datagrams of other proxies.
    Peers,
}

impl Role {
    /// The roles of the sockets that a service manager may open and pass.
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

/// A socket that this process has inherited, or that it hands over to a new process.
#[derive(Debug)]
pub struct Socket {
    /// The role of the socket.
    pub role: Role,
    /// The configured address for which the socket was bound. Its port may be 0. `None` for a
    /// socket from a service manager, which replaces the configured addresses.
    pub asked: Option<SocketAddr>,
    /// The address that the socket is really bound to.
    pub address: SocketAddr,
    /// The file descriptor of the socket.
    pub descriptor: OwnedFd,
}

/// Sockets that this process has inherited.
#[derive(Debug, Default)]
pub struct InheritedSockets {
    sockets: Vec<Socket>,
    /// Whether another process also accepts from the sockets until this process is ready.
    shared: bool,
}

impl InheritedSockets {
    /// Creates inherited sockets from the sockets that a predecessor hands over.
    #[must_use]
    pub const fn by_predecessor(sockets: Vec<Socket>) -> Self {
        Self {
            sockets,
            shared: true,
        }
    }

    /// Takes the sockets that a service manager passes (sd_listen_fds(3)). Their roles come from
    /// their names `http`, `tls` and `admin`. If no socket has a name, all of them are `http`.
    ///
    /// Removes the environment variables that announce the sockets. So call it at the start of the
    /// program, before other threads exist.
    ///
    /// # Errors
    ///
    /// When a socket has another name, or is not a listening TCP socket.
    pub fn by_manager() -> Result<Self, ActivationError> {
        Ok(Self {
            sockets: activation::sockets()?,
            shared: false,
        })
    }

    /// Returns whether another process also accepts from the sockets until this process is ready.
    #[must_use]
    pub const fn is_shared(&self) -> bool {
        self.shared
    }

    /// Returns whether there is a socket with this role.
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

impl Drop for InheritedSockets {
    /// Closes the sockets that no part of the configuration has taken.
    fn drop(&mut self) {
        for socket in &self.sockets {
            let Socket { role, address, .. } = socket;
            warn!(%role, %address, "an inherited socket is not used");
        }
    }
}

/// A socket that this process listens on.
#[derive(Debug)]
pub struct Listener<T = TcpListener> {
    /// The socket.
    pub socket: Arc<T>,
    /// The address that the socket is really bound to.
    pub address: SocketAddr,
}

/// The set of sockets that this process listens on. Clones are cheap and share state.
#[derive(Clone, Debug, Default)]
pub struct Listening(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    entries: Mutex<Vec<Entry>>,
    /// The token that is cancelled when another process accepts instead of this process.
    left: CancellationToken,
    /// Whether clients should send their next request on another connection. The flag is an atomic
    /// and not a token, because each response reads it.
    parting: AtomicBool,
}

/// An entry for a socket. The accept loop owns the socket, and the entry does not keep the socket
/// open.
#[derive(Debug)]
struct Entry {
    role: Role,
    asked: Option<SocketAddr>,
    address: SocketAddr,
    socket: Weak<dyn Open>,
}

trait Open: AsFd + fmt::Debug + Send + Sync {}

impl<T: AsFd + fmt::Debug + Send + Sync> Open for T {}

impl Listening {
    /// Takes inherited sockets for the configured addresses, and binds addresses that have no
    /// inherited socket. The sockets of a service manager replace all configured addresses.
    ///
    /// # Errors
    ///
    /// When an address cannot be bound.
    pub async fn listen(
        &self,
        given: &mut InheritedSockets,
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
                listeners.push(self.register(role, Some(asked), socket, address));
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
            listeners.push(self.register(role, None, socket, address));
        }
        Ok(listeners)
    }

    /// Returns a socket for the datagrams of peers: an inherited socket, or a new socket that is
    /// bound to `asked`.
    ///
    /// # Errors
    ///
    /// When the address cannot be bound.
    pub async fn listen_to_peers(
        &self,
        given: &mut InheritedSockets,
        asked: SocketAddr,
    ) -> Result<Listener<UdpSocket>, BindError> {
        let (socket, address) = match given.for_address(Role::Peers, asked) {
            Some(socket) => listener::adopt_datagrams(socket.descriptor, asked)?,
            None => listener::bind_datagrams(asked).await?,
        };
        Ok(self.register(Role::Peers, Some(asked), socket, address))
    }

    fn register<T: Open + 'static>(
        &self,
        role: Role,
        asked: Option<SocketAddr>,
        socket: T,
        address: SocketAddr,
    ) -> Listener<T> {
        let socket = Arc::new(socket);
        let weak: Weak<T> = Arc::downgrade(&socket);
        self.entries().push(Entry {
            role,
            asked,
            address,
            socket: weak,
        });
        Listener { socket, address }
    }

    /// Duplicates the descriptors of all open sockets.
    ///
    /// # Errors
    ///
    /// When the process has too many open files.
    pub fn duplicates(&self) -> io::Result<Vec<Socket>> {
        let mut sockets = Vec::new();
        for entry in self.entries().iter() {
            let Some(socket) = entry.socket.upgrade() else {
                continue;
            };
            sockets.push(Socket {
                role: entry.role,
                asked: entry.asked,
                address: entry.address,
                descriptor: socket.as_fd().try_clone_to_owned()?,
            });
        }
        Ok(sockets)
    }

    /// Stops accepting, since another process accepts. Also tells connected clients to connect
    /// again.
    pub fn leave(&self) {
        self.part();
        self.0.left.cancel();
    }

    /// Returns the token that is cancelled once another process accepts instead of this process.
    #[must_use]
    pub fn left(&self) -> CancellationToken {
        self.0.left.clone()
    }

    /// Returns whether clients should send their next request on another connection.
    #[must_use]
    pub fn is_parting(&self) -> bool {
        // Relaxed, since this flag publishes no other memory.
        self.0.parting.load(Ordering::Relaxed)
    }

    /// Waits until the shutdown is requested. Then tells clients to connect again: during a lame
    /// duck, the new connection reaches another instance of the proxy.
    pub async fn part_with(self, handle: ShutdownHandle) {
        handle.requested().await;
        self.part();
    }

    fn part(&self) {
        self.0.parting.store(true, Ordering::Relaxed);
    }

    fn entries(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.0
            .entries
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
