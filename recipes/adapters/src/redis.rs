//! Connections of `redis`.

use redis::RedisError;
use redis::aio::ConnectionLike;

/// Waits until the server has executed every command that was sent over a multiplexed connection before.
///
/// Commands are executed in the order in which they were sent, so it is the answer to a `PING` that is waited for. The connection
/// stays usable; it is closed when its last clone is dropped.
///
/// # Errors
/// The connection is broken.
pub async fn settle<C: ConnectionLike>(connection: &mut C) -> Result<(), RedisError> {
    redis::cmd("PING").query_async(connection).await
}
