//! Waits for the commands on connections of `redis`.

use redis::RedisError;
use redis::aio::ConnectionLike;

/// Waits until the Redis server has executed every command that was sent over a multiplexed connection before this
/// call.
///
/// The server executes commands in the order in which they were sent, so this function sends a `PING` and waits for the
/// answer. The connection stays usable. Dropping the last clone of the connection closes it.
///
/// # Errors
/// An error if the connection is broken.
pub async fn settle<C: ConnectionLike>(connection: &mut C) -> Result<(), RedisError> {
    redis::cmd("PING").query_async(connection).await
}
