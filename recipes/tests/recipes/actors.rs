//! `ractor` and `kameo`: actors with a mailbox.
//!
//! - **Cleanup**: `ractor`: `ActorRef::drain`, then await the actor's task. `kameo`: `stop_gracefully`, then `wait_for_shutdown`.
//! - **Lost without it**: the messages in the mailbox.
//! - **Repeated**: `drain` and `stop_gracefully` are errors once the actor has stopped. Waiting for its end again is not.
//! - **Waits for**: until every message in the mailbox has been handled.
//! - **Order**: after everything that sends to the actor, before everything that the actor uses.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use kameo::actor::Spawn as _;
use lifecycle_runtime::{BoxError, GracefulShutdown, ShutdownState};
use tokio::task::JoinHandle;

use crate::steps::{assert_clean, in_a_process};

#[derive(GracefulShutdown)]
struct Server {
    #[shutdown(priority = 0, with = |mailer| mailer.drain())]
    mailer: ractor::ActorRef<u8>,
    #[shutdown(priority = 1, timeout = "2s")]
    mailing: JoinHandle<()>,
    #[shutdown(priority = 1, timeout = "2s", with = stop)]
    counter: kameo::actor::ActorRef<Counter>,
    #[shutdown(state)]
    state: ShutdownState,
}

async fn stop(counter: &mut kameo::actor::ActorRef<Counter>) -> Result<(), BoxError> {
    counter.stop_gracefully().await?;
    counter.wait_for_shutdown().await;
    Ok(())
}

struct Mailer;

impl ractor::Actor for Mailer {
    type Msg = u8;
    type State = Arc<AtomicUsize>;
    type Arguments = Arc<AtomicUsize>;

    async fn pre_start(
        &self,
        _: ractor::ActorRef<u8>,
        handled: Arc<AtomicUsize>,
    ) -> Result<Self::State, ractor::ActorProcessingErr> {
        Ok(handled)
    }

    async fn handle(
        &self,
        _: ractor::ActorRef<u8>,
        _: u8,
        handled: &mut Self::State,
    ) -> Result<(), ractor::ActorProcessingErr> {
        handled.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
}

#[derive(kameo::Actor)]
struct Counter(Arc<AtomicUsize>);

impl kameo::message::Message<u8> for Counter {
    type Reply = ();

    async fn handle(&mut self, _: u8, _: &mut kameo::message::Context<Self, ()>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// Starts a server with an actor of each crate, each with ten messages in its mailbox.
async fn server(mailed: &Arc<AtomicUsize>, counted: &Arc<AtomicUsize>) -> Server {
    let (mailer, mailing) = ractor::Actor::spawn(None, Mailer, Arc::clone(mailed))
        .await
        .unwrap();
    let counter = Counter::spawn(Counter(Arc::clone(counted)));
    for order in 0..10 {
        mailer.cast(order).unwrap();
        counter.tell(order).try_send().unwrap();
    }
    Server {
        mailer,
        mailing,
        counter,
        state: ShutdownState::new(),
    }
}

#[test]
fn the_cleanup_handles_the_mailbox_and_a_drop_alone_loses_it() {
    let (mailed, counted) = (Arc::default(), Arc::default());
    in_a_process(async { drop(server(&mailed, &counted).await) });
    assert_eq!(mailed.load(Ordering::Relaxed), 0);
    assert_eq!(counted.load(Ordering::Relaxed), 0);
    in_a_process(async {
        let mut server = server(&mailed, &counted).await;
        assert_clean(&server.shutdown().await);
    });
    assert_eq!(mailed.load(Ordering::Relaxed), 10);
    assert_eq!(counted.load(Ordering::Relaxed), 10);
}
