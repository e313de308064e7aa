//! A consumer of a message broker that shuts down between two batches, never within one.
//!
//! Three consumers work on the same topic, one after the other. The shutdown of the first consumer begins in the middle
//! of a batch. That consumer finishes the batch, commits it, and leaves. The second consumer hangs in the middle of a
//! batch until its time is up, and the batch goes back to the broker. The third consumer consumes all messages that are
//! left. In the end every message was recorded once.
//!
//! `cargo run -p lifecycle-examples --example batch_consumer`

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lifecycle_runtime::{
    BoxError, GracefulShutdown, Reason, Report, Runner, ShutdownHandle, ShutdownState, Stop,
};

type Message = u32;

#[derive(GracefulShutdown)]
#[shutdown(strict, timeout = self.patience, at_most = "25s")]
struct Consumer {
    /// The consumer leaves the topic first, so that other consumers get the next messages.
    #[shutdown(priority = 0, timeout = "2s", with = Subscription::leave)]
    subscription: Subscription,
    /// The ledger drops the records of an unfinished batch, since the broker delivers the whole batch again.
    #[shutdown(priority = 10, timeout = "2s", with = Ledger::roll_back)]
    ledger: Ledger,
    #[shutdown(skip)]
    downstream: Downstream,
    #[shutdown(skip)]
    patience: Duration,
    #[shutdown(state)]
    state: ShutdownState,
}

/// Consumes batches until `stop` fires. After that the runner awaits this function for the time that the plan does not
/// need.
async fn consume(consumer: &mut Consumer, stop: Stop) -> Result<(), BoxError> {
    loop {
        // The loop checks `stop` only here, so it finishes every batch.
        let batch = tokio::select! {
            // If `stop` has fired and a batch is ready too, `stop` takes precedence.
            biased;
            () = stop.cancelled() => return Ok(()),
            // `next` must be cancel-safe. Otherwise `stop` could drop a batch that `next` has received but not
            // returned.
            batch = consumer.subscription.next() => batch,
        };
        let Some(batch) = batch else {
            return Ok(()); // the topic has ended
        };
        for &message in &batch.messages {
            consumer.downstream.send(message).await;
            consumer.ledger.record(message);
        }
        // The ledger must commit before the subscription. After a crash between the two commits, the broker delivers
        // the batch again, and the ledger recognizes the messages by their numbers. In the other order such a crash
        // would lose the batch.
        consumer.ledger.commit().await?;
        consumer.subscription.commit(batch).await;
    }
}

#[tokio::main]
async fn main() -> Report {
    const MESSAGES: Message = 20;
    let broker = Arc::new(Broker::with(0..MESSAGES));
    let database = Arc::default();

    let patient = Duration::from_secs(25);
    let told = Interruption {
        stop_at: Some(7),
        hang_at: None,
    };
    let report = run(&broker, &database, told, patient).await;
    println!("told to stop at message 7: {report}\n");
    assert_eq!(
        broker.committed(),
        10,
        "the batch of message 7 was finished and committed"
    );

    let impatient = Duration::from_millis(200);
    let stuck = Interruption {
        stop_at: Some(11),
        hang_at: Some(12),
    };
    let report = run(&broker, &database, stuck, impatient).await;
    println!("stuck at message 12: {report}\n");
    assert_eq!(
        broker.committed(),
        10,
        "nothing of the half batch was committed"
    );
    assert_eq!(broker.returned(), 5, "all of it went back");

    let report = run(&broker, &database, Interruption::default(), patient).await;
    println!("until the topic ended: {report}\n");

    let recorded = lock(&database);
    assert!(
        recorded.keys().copied().eq(0..MESSAGES),
        "no message is missing"
    );
    assert!(
        recorded.values().all(|&times| times == 1),
        "none was recorded twice"
    );
    println!(
        "{} messages: {} committed, {} of them after they were delivered again",
        MESSAGES,
        broker.committed(),
        broker.returned()
    );
    report
}

async fn run(
    broker: &Arc<Broker>,
    database: &Arc<Mutex<Records>>,
    interruption: Interruption,
    patience: Duration,
) -> Report {
    let handle = ShutdownHandle::new();
    let consumer = Consumer {
        subscription: Subscription {
            broker: Some(Arc::clone(broker)),
        },
        ledger: Ledger {
            pending: Vec::new(),
            database: Arc::clone(database),
        },
        downstream: Downstream {
            interruption,
            handle: handle.clone(),
        },
        patience,
        state: ShutdownState::new(),
    };
    Runner::new(consumer).handle(&handle).run(consume).await
}

/// Another service, to which the consumer sends every message. In this example it also requests the shutdown, or hangs.
struct Downstream {
    interruption: Interruption,
    handle: ShutdownHandle,
}

#[derive(Default)]
struct Interruption {
    stop_at: Option<Message>,
    hang_at: Option<Message>,
}

impl Downstream {
    async fn send(&self, message: Message) {
        if self.interruption.stop_at == Some(message) {
            self.handle.request(Reason::Requested);
        }
        if self.interruption.hang_at == Some(message) {
            std::future::pending::<()>().await;
        }
        // The yield stands for the wait of a real call. Meanwhile the runner begins the shutdown, in the middle of the
        // batch.
        tokio::task::yield_now().await;
    }
}

/// The number of times that each message was recorded.
type Records = BTreeMap<Message, u32>;

/// A transaction on a database. Its pending records reach the database when the transaction is committed.
struct Ledger {
    pending: Vec<Message>,
    database: Arc<Mutex<Records>>,
}

impl Ledger {
    fn record(&mut self, message: Message) {
        self.pending.push(message);
    }

    async fn commit(&mut self) -> Result<(), BoxError> {
        let mut database = lock(&self.database);
        for message in self.pending.drain(..) {
            *database.entry(message).or_default() += 1;
        }
        Ok(())
    }

    fn roll_back(&mut self) {
        self.pending.clear();
    }
}

/// A message broker in memory. It takes back a batch that is dropped without a commit.
struct Broker {
    topic: Mutex<Topic>,
}

#[derive(Default)]
struct Topic {
    waiting: VecDeque<Message>,
    committed: usize,
    returned: usize,
}

impl Broker {
    fn with(messages: impl IntoIterator<Item = Message>) -> Self {
        let waiting = messages.into_iter().collect();
        Self {
            topic: Mutex::new(Topic {
                waiting,
                ..Topic::default()
            }),
        }
    }

    fn committed(&self) -> usize {
        lock(&self.topic).committed
    }

    fn returned(&self) -> usize {
        lock(&self.topic).returned
    }
}

/// A consumer's subscription to the topic. It is `None` once the consumer has left.
struct Subscription {
    broker: Option<Arc<Broker>>,
}

impl Subscription {
    async fn next(&self) -> Option<Batch> {
        const MOST: usize = 5;
        let broker = self.broker.as_ref()?;
        let mut topic = lock(&broker.topic);
        let most = MOST.min(topic.waiting.len());
        let messages: Vec<Message> = topic.waiting.drain(..most).collect();
        (!messages.is_empty()).then(|| Batch {
            messages,
            broker: Arc::clone(broker),
        })
    }

    async fn commit(&self, mut batch: Batch) {
        let messages = std::mem::take(&mut batch.messages);
        lock(&batch.broker.topic).committed += messages.len();
        println!("committed {messages:?}");
    }

    async fn leave(&mut self) {
        self.broker = None;
    }
}

/// Messages that the broker has delivered, and that the consumer has not committed yet.
struct Batch {
    messages: Vec<Message>,
    broker: Arc<Broker>,
}

/// Returns uncommitted messages to the broker, which delivers them again. A real broker takes them
/// back when the connection ends.
impl Drop for Batch {
    fn drop(&mut self) {
        let mut topic = lock(&self.broker.topic);
        topic.returned += self.messages.len();
        for message in self.messages.drain(..).rev() {
            topic.waiting.push_front(message);
        }
    }
}

/// Locks a mutex, also a poisoned one: a panic leaves none of these values half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
