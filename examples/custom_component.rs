//! Two components written by hand. [`Workers`] is a component that only its owner holds, and [`Outbox`] is a component
//! that is shared in an `Arc`.
//!
//! A server holds both components. One of its workers ignores the shutdown, and is awaited after its abort in the
//! reserve between the soft and the hard deadline. In the end another server is dropped without a shutdown, which calls
//! `release`.
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

/// A group of named tasks. The shutdown cancels and awaits them, and aborts the tasks that do not end in time.
#[derive(Default)]
struct Workers {
    told: CancellationToken,
    running: Vec<Worker>,
    /// The workers that panicked or had to be aborted. The names are kept in this field and not in `cleanup`, since
    /// `cleanup` may be interrupted and called again.
    failed: Vec<String>,
}

struct Worker {
    name: &'static str,
    task: JoinHandle<()>,
}

impl Component for Workers {
    async fn cleanup(&mut self, cx: &Context) -> Result<(), BoxError> {
        // This call comes first, so that the shutdown's progress shows the workers from the beginning.
        cx.waiting_for(self.unfinished());
        self.told.cancel();

        let soft = Instant::from_std(cx.deadline());
        // A worker is removed from the list as soon as its end is known, without an `.await` between the two. So if
        // this future is dropped at an `.await`, the next call of `cleanup` goes on where this call was.
        while let Some(worker) = self.running.last_mut() {
            let ended = match timeout_at(soft, &mut worker.task).await {
                Ok(ended) => ended,
                // Until an aborted task has ended, it may hold resources that later steps close. The time between the
                // soft and the hard deadline is reserved for this wait.
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

    /// Aborts the workers. The engine calls this after the hard deadline, when no time is left to wait for them.
    fn abort(&mut self) {
        for worker in &self.running {
            worker.task.abort();
        }
    }

    /// Aborts the workers of a server that is dropped without a shutdown. Otherwise the tasks would run on, since
    /// dropping a `JoinHandle` only detaches its task.
    fn release(&mut self) {
        self.abort();
    }
}

impl Workers {
    fn spawn(&mut self, name: &'static str, work: impl Future<Output = ()> + Send + 'static) {
        let task = tokio::spawn(work);
        self.running.push(Worker { name, task });
    }

    /// Returns a closure that names the running workers. `cleanup` borrows the workers while it runs, so the closure
    /// has its own handles of the tasks.
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

/// A queue of mail. All senders share it in an `Arc`.
#[derive(Default)]
struct Outbox {
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    closed: bool,
    mails: VecDeque<String>,
}

/// The error of a closed outbox. It gives the mail back to the sender.
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

// `Component` is implemented for the reference, as `Read` is for `&File`. That makes `Arc<Outbox>` a component. The
// shutdown closes the outbox for all holders of the `Arc`. Dropping a clone of the `Arc` closes nothing.
impl Component for &Outbox {
    async fn cleanup(&mut self, _cx: &Context) -> Result<(), BoxError> {
        self.queue().closed = true;
        loop {
            let Some(mail) = self.queue().mails.front().cloned() else {
                return Ok(());
            };
            send(&mail).await?;
            // The mail is removed only after it was sent. If this future is dropped before that, the next call of
            // `cleanup` sends the mail.
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
    /// The step is `best_effort`: an aborted worker is in the report, but the shutdown still counts as clean.
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

/// Drops a server without a shutdown. The drop logs one warning and releases the fields that only the server owns.
async fn drop_without_shutdown() {
    let mut server = Server::new();
    let (held, released) = oneshot::channel::<()>();
    server.workers.spawn("orphan", async move {
        let _held = held;
        std::future::pending().await
    });
    drop(server);
    // The task holds the sender, so the receiver gets an error when the task is aborted.
    if released.await.is_err() {
        println!("dropped without a shutdown: its worker was aborted");
    }
}
