//! Clients of `async-nats`.

use async_nats::Client;

/// Drains a client and waits until its connection has ended. By then, published messages have been sent and subscriptions
/// have handed out what had arrived.
///
/// `Client::drain` alone only enqueues the request. While the server is away, this waits for the client to reconnect. If the
/// connection has ended for good, this does nothing.
pub async fn drain(client: &mut Client) {
    // An error means that the task behind the client has ended: there is nothing left to wait for.
    if client.drain().await.is_ok() {
        while client.flush().await.is_ok() {
            tokio::task::yield_now().await;
        }
    }
}
