//! Connections of `redis`.

use redis::RedisError;
use redis::aio::ConnectionLike;

/// Waits until the server has executed every command that was sent over a multiplexed connection before.
///
/// The server executes commands in the order in which they were sent, so this sends a `PING` and waits for the answer. The
/// connection stays usable; dropping its last clone closes it.
///
/// # Errors
/// The connection is broken.
pub async fn settle<C: ConnectionLike>(connection: &mut C) -> Result<(), RedisError> {
    redis::cmd("PING").query_async(connection).await
}
