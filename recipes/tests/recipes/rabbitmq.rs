//! `lapin`: a connection to RabbitMQ.
//!
//! - **Cleanup**: `Connection::close(200, "OK")`, which the broker confirms.
//! - **Lost without it**: the broker's confirmation. A thread sends what is queued, but nothing waits for it.
//! - **Repeated**: the crate's `close` is an error the second time; the adapter's does nothing.
//! - **Waits for**: the broker's confirmation.
//! - **Order**: after everything that publishes or acknowledges: it closes their channels.

use std::time::Duration;

use lapin::options::{BasicPublishOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use lifecycle_adapters as adapters;
use lifecycle_runtime::{GracefulShutdown, ShutdownState};

use crate::real_server::RealServer;
use crate::steps::{assert_clean, assert_timed_out};

#[derive(GracefulShutdown)]
struct Server {
    #[shutdown(timeout = "5s", with = adapters::lapin::close)]
    rabbitmq: Connection,
    #[shutdown(state)]
    state: ShutdownState,
}

async fn connect(port: u16) -> (Server, Channel) {
    let url = format!("amqp://127.0.0.1:{port}");
    let rabbitmq = Connection::connect(&url, ConnectionProperties::default());
    let rabbitmq = rabbitmq.await.unwrap();
    let channel = rabbitmq.create_channel().await.unwrap();
    let state = ShutdownState::new();
    (Server { rabbitmq, state }, channel)
}

async fn publish(channel: &Channel) -> Result<(), lapin::Error> {
    let (exchange, options) = ("".into(), BasicPublishOptions::default());
    let properties = BasicProperties::default();
    channel
        .basic_publish(exchange, "orders".into(), options, b"an order", properties)
        .await
        .map(drop)
}

async fn queue(channel: &Channel) -> u32 {
    let options = QueueDeclareOptions::default();
    let queue = channel.queue_declare("orders".into(), options, FieldTable::default());
    queue.await.unwrap().message_count()
}

#[tokio::test]
async fn the_broker_confirms_the_close_after_every_published_message() {
    let broker = RealServer::rabbitmq();
    let (mut server, channel) = connect(broker.port).await;
    queue(&channel).await;
    for _ in 0..100 {
        publish(&channel).await.unwrap();
    }
    assert_clean(&server.shutdown().await);
    assert!(server.rabbitmq.status().closed());
    // A task that is not awaited before the close may publish after it, and then its message is lost.
    assert!(publish(&channel).await.is_err());
    assert!(server.rabbitmq.close(200, "OK".into()).await.is_err());
    assert!(adapters::lapin::close(&mut server.rabbitmq).await.is_ok());

    let (mut observer, channel) = connect(broker.port).await;
    assert_eq!(queue(&channel).await, 100);
    assert_clean(&observer.shutdown().await);
}

#[tokio::test]
async fn the_cleanup_awaits_the_broker_and_a_drop_does_not() {
    let broker = RealServer::rabbitmq();
    let (mut server, channel) = connect(broker.port).await;
    queue(&channel).await;
    broker.pause();
    let report = server.shutdown().within(Duration::from_millis(300)).await;
    assert_timed_out(&report, "rabbitmq");
    drop(server);
}
