//! An HTTP server that shuts down without losing requests and without hanging on slow clients.
//!
//! [`HttpServer`] serves any tower service (an axum `Router`, tonic's `Routes`) or hyper service over HTTP/1.1 and
//! HTTP/2, on TCP and unix sockets, with or without TLS. It is a component of a `lifecycle_runtime` plan:
//!
//! ```
//! use lifecycle_http::HttpServer;
//! use lifecycle_runtime::{GracefulShutdown, ShutdownState};
//! # use lifecycle_http::RequestBody;
//! # use http::{Request, Response};
//! # use std::convert::Infallible;
//!
//! #[derive(GracefulShutdown)]
//! #[shutdown(strict, timeout = "25s")]
//! struct Server {
//!     #[shutdown(priority = 10, timeout = "20s")]
//!     http: HttpServer,
//!     #[shutdown(state)]
//!     state: ShutdownState,
//! }
//!
//! # async fn hello(_: Request<RequestBody>) -> Result<Response<String>, Infallible> {
//! #     Ok(Response::new("hello".into()))
//! # }
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> std::io::Result<()> {
//! let mut server = Server {
//!     http: HttpServer::bind("127.0.0.1:0").await?.serve_hyper(hyper::service::service_fn(hello)),
//!     state: ShutdownState::new(),
//! };
//! let report = server.shutdown().await;
//! assert!(report.is_clean(), "{report}");
//! # Ok(())
//! # }
//! ```
//!
//! # How it drains
//!
//! | connection | what happens |
//! |---|---|
//! | waiting in the accept queue | accepted, and served if the client sends a request |
//! | HTTP/1.1, in a request | the response says `connection: close`, and is finished |
//! | HTTP/1.1, between requests | closed; a client that was answered a moment ago has a moment for one more request, whose response says `connection: close` |
//! | HTTP/1.1, in a half-sent request head | the client has [`Limits::close_ack_timeout`] to finish the head |
//! | HTTP/2 | the server sends a GOAWAY and, a round trip later, the final GOAWAY; open streams are finished |
//! | upgraded (WebSocket, CONNECT) | its task is told by [`Connection::cancelled`], and awaited until it drops the stream |
//! | event stream | ends after an event, with a random time to reconnect (`retry:`) |
//! | gRPC stream over h2 | ends between two messages with `UNAVAILABLE` in its trailers, once it is quiet for [`Limits::keep_alive_after_drain`] or after [`Limits::close_ack_timeout`]; a call that is answered in that time keeps its status |
//! | stream of lines | ends between two lines after the same times as gRPC, if [`HttpBuilder::end_lines_of`] names its type |
//! | any that is left at the soft deadline | closed by force and counted; the report names its peer, protocol, path and age |
//!
//! The drain ends as soon as the last connection has ended: there is no fixed sleep.
//!
//! When the step of the server ends, the service is dropped with the connections, and so is the state that it holds.
//! What handlers use (a pool, for example) belongs into a field of its own with a later priority; the service holds an
//! `Arc` or a clone of it.
//!
//! # Probes
//!
//! [`Probes`] answers `/livez` and `/readyz` from a `Readiness`. It is a tower service: with axum,
//! `router.route_service("/livez", probes.clone()).route_service("/readyz", probes)`. A hyper service asks
//! [`Probes::answer`] first. `lifecycle_runtime::guide::http` shows a whole server.
//!
//! # For proxies and other services with needs of their own
//!
//! | need | how |
//! |---|---|
//! | connections that are drained by a step of their own, or are shared by several servers | [`HttpBuilder::acceptor`] |
//! | connections that are refused while load is shed, with a response of your own | [`HttpBuilder::admit`], [`HttpBuilder::refuse_with`] |
//! | a successor process that accepts on the same sockets | a [`Listener`] made from an `Arc`, [`HttpBuilder::accept_until`] |
//! | probes that are answered whatever other clients do | [`Room`] |
//! | a connection that closes after this response, over HTTP/1.1 | `connection: close` in the response |
//! | interim responses, such as 103 | [`HttpConnection::send_interim`] |
//! | a service of its own for each connection | [`HttpBuilder::serve_each`] |
//! | an upgrade that depends on an upstream | [`Upgrade`], [`WebSocketRelay`] |
//! | an upstream that stops in the middle of a response | [`Limits::silence`] |
//! | streams and ambiguous requests that the service handles itself | [`HttpBuilder::end_streams`], [`HttpBuilder::pass_ambiguous`] |
//! | streams that are not HTTP, such as TLS that is passed on | [`StreamServer`] |
//!
//! The repository's `examples/proxy` is built on these.
//!
//! # Features
//!
//! | feature | default | what it adds |
//! |---|---|---|
//! | `h2` | yes | HTTP/2, by prior knowledge or ALPN |
//! | `rustls` | no | `tokio_rustls::TlsAcceptor` as a [`Handshake`] |
//! | `ws` | no | `ws`: WebSockets that send the close code 1001 when the server shuts down |

#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod accept;
mod activity;
mod app;
mod builder;
mod connection;
mod drive;
mod ending;
mod entrance;
mod exchange;
mod framing;
mod handshake;
mod interim;
mod limits;
mod link;
mod listener;
mod pace;
mod probes;
mod raw_stream;
mod relay;
mod request_body;
mod response_body;
mod room;
mod server;
mod sniff;
mod socket;
mod sse;
mod stream_server;
mod throttle;
mod upgrade;
#[cfg(feature = "ws")]
pub mod ws;

pub use builder::HttpBuilder;
pub use entrance::Refusal;
pub use exchange::AmbiguousLength;
pub use framing::RequestFraming;
pub use handshake::{Handshake, Plain, Protocol};
pub use lifecycle_runtime::{CloseReason, Connection, ConnectionStats, Peer};
pub use limits::Limits;
pub use link::HttpConnection;
pub use listener::Listener;
pub use probes::{ProbeBody, Probes};
pub use raw_stream::RawStream;
pub use relay::{Relayed, WebSocketRelay};
pub use request_body::{BodyError, RequestBody};
pub use room::{Room, Stay, StayBody};
pub use server::HttpServer;
pub use socket::Socket;
pub use sse::SseBody;
pub use stream_server::{StreamBuilder, StreamServer};
pub use upgrade::{NotUpgradable, Upgrade, upgrade_tracked};
