//! A consumer of a message broker that leaves between two batches, never within one.
//!
//! Three consumers work on the same topic, one after the other. The first is told to stop in the
//! middle of a batch: it finishes the batch, commits it, and leaves. The second hangs in the middle
//! of a batch until its time is up: the batch goes back to the broker. The third consumes what is
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
    /// Left first, so that others get what this consumer would have got.
    #[shutdown(priority = 0, timeout = "2s", with = Subscription::leave)]
    subscription: Subscription,
    /// A half batch is not recorded: it comes back whole.
    #[shutdown(priority = 10, timeout = "2s", with = Ledger::roll_back)]
    ledger: Ledger,
    #[shutdown(skip)]
    downstream: Downstream,
    #[shutdown(skip)]
    patience: Duration,
    #[shutdown(state)]
    state: ShutdownState,
}

/// The runner tells main through `stop`, then waits for it until the plan needs the rest of the
/// time.
async fn consume(consumer: &mut Consumer, stop: Stop) -> Result<(), BoxError> {
    loop {
        // Looked at here and nowhere else, so that a batch that was begun is finished.
        let batch = tokio::select! {
            // A stop comes before a batch that is ready.
            biased;
            () = stop.cancelled() => return Ok(()),
            // Has to be cancel-safe: a batch that was received but not returned would be lost here.
            batch = consumer.subscription.next() => batch,
        };
        let Some(batch) = batch else {
            return Ok(()); // the topic has ended
        };
        for &message in &batch.messages {
            consumer.downstream.send(message).await;
            consumer.ledger.record(message);
        }
        // In this order: a crash in between delivers the batch again, which the ledger notices by
        // the messages' numbers. The other way round it would lose the batch.
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

/// What a message causes elsewhere. Here it is also where the operator presses Ctrl-C.
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
        // As any real call would, it gives the runner a chance to begin the shutdown in the middle
        // of the batch.
        tokio::task::yield_now().await;
    }
}

/// How often each message was recorded.
type Records = BTreeMap<Message, u32>;

/// A transaction on a database: records count once they are committed.
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

/// A broker in memory, which lends a batch until it is committed, and takes back what was not.
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

/// A consumer's place at the broker, until it has left.
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

/// Messages on loan.
struct Batch {
    messages: Vec<Message>,
    broker: Arc<Broker>,
}

/// What was not committed goes back, to be delivered again: to a real broker when the connection is
/// lost.
impl Drop for Batch {
    fn drop(&mut self) {
        let mut topic = lock(&self.broker.topic);
        topic.returned += self.messages.len();
        for message in self.messages.drain(..).rev() {
            topic.waiting.push_front(message);
        }
    }
}

/// What a panicking thread left in these locks is whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
