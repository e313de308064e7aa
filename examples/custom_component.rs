//! Two components written by hand: one that its owner alone holds, and one that is shared in an
//! `Arc`.
//!
//! A server holds both. One of its workers does not listen, so that the reserve is seen at work; in
//! the end another server is dropped without a shutdown, so that `release` is.
//!
//! `cargo run -p lifecycle-examples --example custom_component`

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lifecycle_runtime::{
    BoxError, Component, Context, GracefulShutdown, Report, Runner, ShutdownHandle, ShutdownState,
};
use tokio::sync::oneshot;
use tokio::task::{AbortHandle, JoinHandle};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

/// Named tasks. They are told to stop, waited for, and in the end aborted.
#[derive(Default)]
struct Workers {
    told: CancellationToken,
    running: Vec<Worker>,
    /// Those that panicked or had to be aborted. Kept here, not in `cleanup`, which may be taken up
    /// again.
    failed: Vec<String>,
}

struct Worker {
    name: &'static str,
    task: JoinHandle<()>,
}

impl Component for Workers {
    async fn cleanup(&mut self, cx: &Context) -> Result<(), BoxError> {
        // First of all, so that whoever asks is told from the beginning.
        cx.waiting_for(self.unfinished());
        self.told.cancel();

        let soft = Instant::from_std(cx.deadline());
        // A worker leaves the list when its end is known, with no `.await` in between: dropped at
        // any `.await` here and called again, this goes on where it was.
        while let Some(worker) = self.running.last_mut() {
            let ended = match timeout_at(soft, &mut worker.task).await {
                Ok(ended) => ended,
                // An abort is a request. Until the task has ended it may hold what later steps
                // close; for this wait there is the reserve between the soft deadline and the hard
                // one.
                Err(_elapsed) => {
                    worker.task.abort();
                    (&mut worker.task).await
                }
            };
            if let Err(error) = ended {
                self.failed.push(format!("{}: {error}", worker.name));
            }
            self.running.pop();
        }

        match &*self.failed {
            [] => Ok(()),
            failed => Err(failed.join(", ").into()),
        }
    }

    /// After the hard deadline: nobody waits any more.
    fn abort(&mut self) {
        for worker in &self.running {
            worker.task.abort();
        }
    }

    /// From the `Drop` of a server that was never shut down. The tasks belong to this value alone,
    /// and would run on: a dropped `JoinHandle` lets its task go.
    fn release(&mut self) {
        self.abort();
    }
}

impl Workers {
    fn spawn(&mut self, name: &'static str, work: impl Future<Output = ()> + Send + 'static) {
        let task = tokio::spawn(work);
        self.running.push(Worker { name, task });
    }

    /// The names of those that run, whenever it is asked. While `cleanup` runs it borrows the
    /// workers, so this reads handles of its own.
    fn unfinished(&self) -> impl Fn() -> String + Send + Sync + 'static {
        let handles: Vec<(&str, AbortHandle)> = self
            .running
            .iter()
            .map(|worker| (worker.name, worker.task.abort_handle()))
            .collect();
        move || {
            let running = handles.iter().filter(|(_, task)| !task.is_finished());
            running
                .map(|(name, _)| *name)
                .collect::<Vec<_>>()
                .join(", ")
        }
    }
}

/// Mail to be sent, shared by everyone who posts some.
#[derive(Default)]
struct Outbox {
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    closed: bool,
    mails: VecDeque<String>,
}

/// The mail, back: the outbox is closed.
#[derive(Debug)]
struct Closed(String);

impl Outbox {
    fn post(&self, mail: impl Into<String>) -> Result<(), Closed> {
        let mut queue = self.queue();
        if queue.closed {
            return Err(Closed(mail.into()));
        }
        queue.mails.push_back(mail.into());
        Ok(())
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// On the reference, as `Read` is implemented for `&File`: that makes `Arc<Outbox>` a component. The
// shutdown closes the outbox for all who hold it; dropping one of the clones closes nothing.
impl Component for &Outbox {
    async fn cleanup(&mut self, _cx: &Context) -> Result<(), BoxError> {
        self.queue().closed = true;
        loop {
            let Some(mail) = self.queue().mails.front().cloned() else {
                return Ok(());
            };
            send(&mail).await?;
            // Only now: had this been dropped before, the next call would send the mail.
            self.queue().mails.pop_front();
        }
    }
}

async fn send(mail: &str) -> io::Result<()> {
    println!("sent: {mail}");
    Ok(())
}

#[derive(GracefulShutdown)]
#[shutdown(strict, timeout = "5s")]
struct Server {
    /// A worker that has to be aborted is reported, but fails nothing.
    #[shutdown(priority = 0, timeout = "400ms", best_effort)]
    workers: Workers,
    #[shutdown(priority = 10, timeout = "2s")]
    outbox: Arc<Outbox>,
    #[shutdown(state)]
    state: ShutdownState,
}

impl Server {
    fn new() -> Self {
        Self {
            workers: Workers::default(),
            outbox: Arc::default(),
            state: ShutdownState::new(),
        }
    }

    fn start(handle: ShutdownHandle) -> Self {
        let mut server = Self::new();
        let (told, outbox) = (server.workers.told.clone(), Arc::clone(&server.outbox));
        server.workers.spawn("newsletter", async move {
            told.cancelled().await;
            outbox
                .post("the last issue")
                .expect("the outbox is closed after the workers");
        });
        let told = server.workers.told.clone();
        server.workers.spawn("status page", async move {
            told.cancelled().await;
            for step in handle.progress().unfinished() {
                println!(
                    "{}: waiting for {}",
                    step.path(),
                    step.waiting_for().unwrap_or("its turn")
                );
            }
        });
        server.workers.spawn("stubborn", std::future::pending());
        server
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Report {
    let handle = ShutdownHandle::new();
    let server = Server::start(handle.clone());
    let outbox = Arc::clone(&server.outbox);
    let report = Runner::new(server)
        .handle(&handle)
        .run(async |server, _stop| server.outbox.post("welcome").map_err(|Closed(mail)| mail))
        .await;
    println!("{report}");

    if let Err(Closed(mail)) = outbox.post("are you there?") {
        println!("not sent, the outbox is closed: {mail}");
    }
    drop_without_shutdown().await;
    report
}

/// A server that nobody shuts down logs one warning when it is dropped, and releases what it alone
/// owns.
async fn drop_without_shutdown() {
    let mut server = Server::new();
    let (held, released) = oneshot::channel::<()>();
    server.workers.spawn("orphan", async move {
        let _held = held;
        std::future::pending().await
    });
    drop(server);
    // The sender is gone once the task is.
    if released.await.is_err() {
        println!("dropped without a shutdown: its worker was aborted");
    }
}
