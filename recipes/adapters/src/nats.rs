//! Drains clients of `async-nats`.

use async_nats::Client;

/// Drains a client and waits until its connection has ended. By then the client has sent all published messages, and
/// its subscriptions have handed out all messages that had arrived.
///
/// `Client::drain` alone only enqueues the request to drain. While the NATS server cannot be reached, this function
/// waits until the client has reconnected. If the connection has ended for good, this function does nothing.
pub async fn drain(client: &mut Client) {
    // An error means that the client's task has ended, so there is no drain to wait for.
    if client.drain().await.is_ok() {
        while client.flush().await.is_ok() {
            tokio::task::yield_now().await;
        }
    }
}
