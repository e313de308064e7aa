//! The guard's thread: signals, commands, and the looks of the watchdog.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep_until;

use super::super::force::{Forced, ForcedRunner, force};
use super::super::signals::Signals;
use super::armed::ArmedRunner;
use super::{Command, Registry, lock, registry};
use crate::engine::RunningPlan;
use crate::{Force, Signal, log};

/// How often the watchdog looks whether the executor still gets to the plan.
const LOOK: Duration = Duration::from_secs(1);

/// Starts the thread, unless another runner was faster.
pub(super) async fn listen() -> Option<mpsc::UnboundedSender<Command>> {
    let (commands, received) = mpsc::unbounded_channel();
    let (registered, when_registered) = oneshot::channel();
    let spawned = thread::Builder::new()
        .name("lifecycle-guard".into())
        .spawn(move || run(registered, commands, received));
    let error = match spawned {
        Err(error) => error,
        Ok(_) => match when_registered.await {
            Ok(Ok(commands)) => return Some(commands),
            Ok(Err(error)) => error,
            Err(_) => io::Error::other("the thread that listens has ended"),
        },
    };
    log::no_signals(&error);
    None
}

type Commands = mpsc::UnboundedSender<Command>;

fn run(
    registered: oneshot::Sender<io::Result<Commands>>,
    commands: Commands,
    mut received: mpsc::UnboundedReceiver<Command>,
) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return drop(registered.send(Err(error))),
    };
    runtime.block_on(async {
        let mut signals = match Signals::register() {
            Ok(signals) => signals,
            Err(error) => return drop(registered.send(Err(error))),
        };
        let known = {
            let mut registry = registry();
            let known = registry.thread.clone();
            registry.thread.get_or_insert_with(|| commands.clone());
            known
        };
        let first = known.is_none();
        // The runner that waits for it may be gone.
        let _ = registered.send(Ok(known.unwrap_or(commands)));
        if first {
            loop {
                attend(&mut signals, &mut received).await;
            }
        }
    });
}

/// Waits for one signal, command or look, and does what it asks for.
async fn attend(signals: &mut Signals, received: &mut mpsc::UnboundedReceiver<Command>) {
    enum Event {
        Signal(Signal),
        Command(Option<Command>),
        Look,
    }
    let event = {
        let mut signal = pin!(signals.next());
        let mut command = pin!(received.recv());
        let next = next_look(Instant::now());
        let mut timer = pin!(next.map(|at| sleep_until(at.into())));
        poll_fn(|cx| {
            if let Poll::Ready(signal) = signal.as_mut().poll(cx) {
                return Poll::Ready(Event::Signal(signal));
            }
            if let Poll::Ready(command) = command.as_mut().poll(cx) {
                return Poll::Ready(Event::Command(command));
            }
            match timer.as_mut().as_pin_mut() {
                Some(timer) => timer.poll(cx).map(|()| Event::Look),
                None => Poll::Pending,
            }
        })
        .await
    };
    match event {
        Event::Signal(signal) => heard(signal),
        Event::Command(Some(Command::Hear(signal, heard))) => {
            // The runner that waits for it may be gone.
            let _ = heard.send(signals.add(signal));
        }
        Event::Command(Some(Command::Watch(runner, over))) => {
            tokio::spawn(async move {
                // Here, since a blocked executor never gets to it.
                over.run_until_cancelled(runner.handle.requested()).await;
                if runner.handle.is_requested() {
                    runner.asked(Instant::now());
                }
            });
        }
        Event::Command(Some(Command::RuntimeEnds(end))) => {
            tokio::spawn(end.watch());
        }
        // There is always a sender: the registry has one.
        Event::Command(Some(Command::Look) | None) => {}
        Event::Look => look(Instant::now()),
    }
}

/// Does what a signal asks for.
fn heard(signal: Signal) {
    let now = Instant::now();
    let (armed, last) = {
        let registry = registry();
        (registry.armed.clone(), registry.last.clone())
    };
    let running = !armed.is_empty();
    let mut forced = armed;
    match running {
        true => forced.retain(|runner| runner.tell(signal, now)),
        false => forced.extend(last.filter(|runner| runner.tells_again(signal, now))),
    }
    if !forced.is_empty() {
        end(Force::Signal(signal), &forced, running);
    }
}

/// The runners that the watchdog watches. One that ended is not waited for while others run.
fn watched(registry: &Registry) -> impl Iterator<Item = &Arc<ArmedRunner>> {
    let last = registry.last.as_ref().filter(|_| registry.armed.is_empty());
    registry.armed.iter().chain(last)
}

/// When the watchdog has to look again, if it watches a runner.
fn next_look(now: Instant) -> Option<Instant> {
    let registry = registry();
    let ends = watched(&registry).filter_map(|runner| lock(&runner.status).gone_by());
    ends.min().map(|end| end.min(now + LOOK))
}

/// Looks whether the process should be gone, and whether the executor gets to the plans.
fn look(now: Instant) {
    let (armed, late) = {
        let registry = registry();
        let is_late = |runner: &&Arc<ArmedRunner>| {
            let gone_by = lock(&runner.status).gone_by();
            gone_by.is_some_and(|by| now >= by)
        };
        let late: Vec<_> = watched(&registry).filter(is_late).cloned().collect();
        (registry.armed.clone(), late)
    };
    let blocked = armed.iter().filter_map(|runner| runner.look(now));
    tell_blocked(blocked.collect());
    let running = !armed.is_empty();
    if !late.is_empty() {
        end(Force::Watchdog, &late, running);
    }
}

/// On a thread that is left behind: a subscriber may wait for what is blocked, or panic, and the guard must do neither.
fn tell_blocked(blocked: Vec<(Arc<RunningPlan>, Duration)>) {
    if blocked.is_empty() {
        return;
    }
    // Without a thread it is not said; the watchdog goes on.
    let _ = thread::Builder::new()
        .name("lifecycle-blocked".into())
        .spawn(move || {
            for (live, since) in blocked {
                log::executor_blocked(&live, since);
            }
        });
}

fn end(by: Force, runners: &[Arc<ArmedRunner>], running: bool) -> ! {
    let runners = runners.iter().map(|runner| ForcedRunner {
        plan: runner.handle.running(),
        phase: lock(&runner.status).phase,
    });
    force(
        by,
        Forced {
            runners: runners.collect(),
            running,
        },
    )
}
