//! Clients of `async-nats`.

use async_nats::Client;

/// Drains a client and waits until its connection has ended: messages that were published have been sent by then, and
/// subscriptions have handed out what had come in.
///
/// `Client::drain` alone only enqueues that. While the server is away this waits for the client to connect again. A client
/// whose connection has ended for good is left alone.
pub async fn drain(client: &mut Client) {
    // Fails only if the task behind the client has ended, which is what is waited for.
    if client.drain().await.is_ok() {
        while client.flush().await.is_ok() {
            tokio::task::yield_now().await;
        }
    }
}
