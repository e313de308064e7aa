//! The guard's thread: it handles signals and commands, and runs the watchdog's checks.

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

/// The time between two checks of the watchdog that the executor still polls the plans.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Starts the guard's thread, unless another runner has started it already.
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
            Err(_) => io::Error::other("the signal thread has ended"),
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
        // Sending fails if the runner that waits for the answer is gone; there is nothing to do then.
        let _ = registered.send(Ok(known.unwrap_or(commands)));
        if first {
            loop {
                handle_next_event(&mut signals, &mut received).await;
            }
        }
    });
}

/// Waits for one signal, command or check of the watchdog, and handles it.
async fn handle_next_event(signals: &mut Signals, received: &mut mpsc::UnboundedReceiver<Command>) {
    enum Event {
        Signal(Signal),
        Command(Option<Command>),
        Check,
    }
    let event = {
        let mut signal = pin!(signals.next());
        let mut command = pin!(received.recv());
        let next = next_check(Instant::now());
        let mut timer = pin!(next.map(|at| sleep_until(at.into())));
        poll_fn(|cx| {
            if let Poll::Ready(signal) = signal.as_mut().poll(cx) {
                return Poll::Ready(Event::Signal(signal));
            }
            if let Poll::Ready(command) = command.as_mut().poll(cx) {
                return Poll::Ready(Event::Command(command));
            }
            match timer.as_mut().as_pin_mut() {
                Some(timer) => timer.poll(cx).map(|()| Event::Check),
                None => Poll::Pending,
            }
        })
        .await
    };
    match event {
        Event::Signal(signal) => on_signal(signal),
        Event::Command(Some(Command::Hear(signal, heard))) => {
            // Sending fails if the runner that waits for the answer is gone; there is nothing to do then.
            let _ = heard.send(signals.add(signal));
        }
        Event::Command(Some(Command::Watch(runner, over))) => {
            tokio::spawn(async move {
                // The wait runs on this thread, since a blocked executor would never run it.
                over.run_until_cancelled(runner.handle.requested()).await;
                if runner.handle.is_requested() {
                    runner.record_request(Instant::now());
                }
            });
        }
        Event::Command(Some(Command::RuntimeEnds(end))) => {
            tokio::spawn(end.watch());
        }
        // `None` cannot happen, since the registry holds a sender.
        Event::Command(Some(Command::Check) | None) => {}
        Event::Check => check(Instant::now()),
    }
}

/// Does what a signal means for each runner of the process.
fn on_signal(signal: Signal) {
    let now = Instant::now();
    let (armed, last) = {
        let registry = registry();
        (registry.armed.clone(), registry.last.clone())
    };
    let running = !armed.is_empty();
    let mut forced = armed;
    match running {
        true => forced.retain(|runner| runner.on_signal(signal, now)),
        false => forced.extend(last.filter(|runner| runner.forces_after_end(signal, now))),
    }
    if !forced.is_empty() {
        end(Force::Signal(signal), &forced, running);
    }
}

/// Returns the runners that the watchdog watches. A runner that has ended is among them only while no other runner is
/// armed.
fn watched(registry: &Registry) -> impl Iterator<Item = &Arc<ArmedRunner>> {
    let last = registry.last.as_ref().filter(|_| registry.armed.is_empty());
    registry.armed.iter().chain(last)
}

/// Returns the time at which the watchdog must check again. `None` if it watches no runner.
fn next_check(now: Instant) -> Option<Instant> {
    let registry = registry();
    let ends = watched(&registry).filter_map(|runner| lock(&runner.status).exit_deadline());
    ends.min().map(|end| end.min(now + CHECK_INTERVAL))
}

/// Forces the end of the process if it should be gone, and logs plans that the executor no longer polls.
fn check(now: Instant) {
    let (armed, late) = {
        let registry = registry();
        let is_late = |runner: &&Arc<ArmedRunner>| {
            let deadline = lock(&runner.status).exit_deadline();
            deadline.is_some_and(|deadline| now >= deadline)
        };
        let late: Vec<_> = watched(&registry).filter(is_late).cloned().collect();
        (registry.armed.clone(), late)
    };
    let blocked = armed.iter().filter_map(|runner| runner.newly_blocked(now));
    log_blocked(blocked.collect());
    let running = !armed.is_empty();
    if !late.is_empty() {
        end(Force::Watchdog, &late, running);
    }
}

/// Logs the blocked plans on a thread that nothing waits for. The log's subscriber may wait for what is blocked, or
/// panic, and neither may affect the guard's thread.
fn log_blocked(blocked: Vec<(Arc<RunningPlan>, Duration)>) {
    if blocked.is_empty() {
        return;
    }
    // The result is ignored: if no thread can be started, nothing is logged, and the watchdog continues.
    let _ = thread::Builder::new()
        .name("lifecycle-blocked".into())
        .spawn(move || {
            for (plan, since) in blocked {
                log::executor_blocked(&plan, since);
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
