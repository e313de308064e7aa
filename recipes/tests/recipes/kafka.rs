//! `rdkafka`: a producer and a consumer of Kafka.
//!
//! - **Cleanup**: `flush` the producer and drop the consumer. Both block, so they run on the blocking pool. Set `enable.auto.offset.store` to `false` and store an offset once its message is handled: the drop polls the consumer's queue and throws the messages away, which would otherwise be committed as read.
//! - **Lost without it**: messages that are queued or not acknowledged. The offsets since the last automatic commit (every 5 s) are lost too, so those messages are read again.
//! - **Repeated**: yes for the producer. The consumer is gone.
//! - **Waits for**: the producer waits for acknowledgements, up to the time given; the consumer for its last commit, and until it has left its group.
//! - **Order**: the consumer after the tasks that handle its messages, the producer after everything that produces.

use std::time::Duration;

use lifecycle_runtime::{GracefulShutdown, ShutdownState};
use rdkafka::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer as _, ThreadedProducer};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::steps::assert_clean;

const MINUTE: Duration = Duration::from_secs(60);

type Cluster = MockCluster<'static, DefaultProducerContext>;

#[derive(GracefulShutdown)]
struct Server {
    #[shutdown(priority = 0, timeout = "5s", take, blocking, with = drop)]
    consumer: Option<BaseConsumer>,
    #[shutdown(priority = 1, timeout = "6s", blocking, with = flush)]
    producer: Option<ThreadedProducer<DefaultProducerContext>>,
    #[shutdown(state)]
    state: ShutdownState,
}

fn flush(producer: &mut ThreadedProducer<DefaultProducerContext>) -> Result<(), KafkaError> {
    producer.flush(Duration::from_secs(5))
}

fn cluster() -> Cluster {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("orders", 1, 1).unwrap();
    cluster
}

fn config(cluster: &Cluster) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", cluster.bootstrap_servers());
    config
}

/// Starts a consumer that, within the time of a test, commits only when it is closed.
fn consumer(cluster: &Cluster) -> BaseConsumer {
    let mut config = config(cluster);
    config
        .set("group.id", "shop")
        .set("auto.commit.interval.ms", "600000")
        .set("auto.offset.reset", "earliest")
        .set("enable.auto.offset.store", "false");
    let consumer: BaseConsumer = config.create().unwrap();
    let mut partitions = TopicPartitionList::new();
    partitions
        .add_partition_offset("orders", 0, Offset::Stored)
        .unwrap();
    consumer.assign(&partitions).unwrap();
    consumer
}

fn producer(cluster: &Cluster) -> ThreadedProducer<DefaultProducerContext> {
    let mut config = config(cluster);
    // The producer keeps a message for 2 s, to send it together with later messages.
    config.set("linger.ms", "2000");
    config.create().unwrap()
}

fn send(producer: &ThreadedProducer<DefaultProducerContext>, order: &str) {
    let record = BaseRecord::<(), str>::to("orders").payload(order);
    producer.send(record).map_err(|(error, _)| error).unwrap();
}

/// Returns how many messages the topic `orders` has.
fn orders(cluster: &Cluster) -> i64 {
    let observer: BaseConsumer = config(cluster).create().unwrap();
    let (_, high) = observer.fetch_watermarks("orders", 0, MINUTE).unwrap();
    high
}

fn server(cluster: &Cluster) -> Server {
    Server {
        consumer: Some(consumer(cluster)),
        producer: Some(producer(cluster)),
        state: ShutdownState::new(),
    }
}

/// Receives a message, marks it as handled, and returns its text.
fn read(consumer: &BaseConsumer) -> String {
    let message = consumer.poll(MINUTE).expect("a message").unwrap();
    consumer.store_offset_from_message(&message).unwrap();
    let payload = rdkafka::Message::payload(&message).unwrap();
    String::from_utf8_lossy(payload).into_owned()
}

#[tokio::test]
async fn produced_messages_arrive_and_read_ones_are_committed() {
    let cluster = cluster();
    let first = producer(&cluster);
    send(&first, "one");
    send(&first, "two");
    first.flush(MINUTE).unwrap();
    let mut server = server(&cluster);
    assert_eq!(read(server.consumer.as_ref().unwrap()), "one");
    send(server.producer.as_ref().unwrap(), "three");
    assert_clean(&server.shutdown().await);
    assert_eq!(orders(&cluster), 3);
    assert_eq!(read(&consumer(&cluster)), "two");
    flush(server.producer.as_mut().unwrap()).unwrap();
}

#[tokio::test]
async fn a_drop_alone_loses_the_producers_queue() {
    let cluster = cluster();
    let producer = producer(&cluster);
    send(&producer, "one");
    drop(producer);
    assert_eq!(orders(&cluster), 0);
}

#[tokio::test]
async fn a_consumer_that_is_not_closed_commits_nothing() {
    let cluster = cluster();
    let producer = producer(&cluster);
    send(&producer, "one");
    producer.flush(MINUTE).unwrap();
    let consumer_of_a_process_that_ends = consumer(&cluster);
    assert_eq!(read(&consumer_of_a_process_that_ends), "one");
    let next = consumer(&cluster);
    assert_eq!(read(&next), "one");
}
