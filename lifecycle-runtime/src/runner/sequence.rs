//! The sequence of a runner: start, serving, lame duck, end of main, plan, end.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use super::end::end;
use super::guard::{Guard, Phase};
use super::main_task::MainTask;
use super::options::{Bounds, Options};
use super::source::Source;
use super::start::{Started, start};
use super::stop::{self, Stop};
use crate::context::after;
use crate::engine::{PollSpan, RunningPlan, ShutdownShared, contain};
use crate::report::Cut;
use crate::state::{self, RunPlan};
use crate::{GracefulShutdown, Reason, Report, ShutdownHandle, TaskOutcome, clock, log};

/// Runs the whole sequence of a runner, and returns the report. The returned guard stays armed until it is dropped.
pub(super) async fn run_sequence<S, B, M, T>(
    source: B,
    mut options: Options,
    main: Option<M>,
) -> (Report, Guard)
where
    S: GracefulShutdown,
    B: Source<S>,
    M: AsyncFnOnce(&mut S, Stop) -> T,
    T: TaskOutcome,
{
    let hooked = options.hooks.iter().map(|(signal, _)| *signal).collect();
    let mut guard = Guard::arm(&options.handle, hooked, options.second_signal).await;
    let before = match B::STARTS {
        true => options.start.stop_timeout,
        false => Duration::ZERO,
    };
    guard.watch(options.allowed(before, S::PLAN.budget()));
    let Started {
        server,
        is_complete,
        stopped_at,
        row,
        trigger: start_trigger,
    } = start(source, options.start, &options.handle.clone(), &guard).await;
    let Some(mut server) = server else {
        let report = without_server::<S>(&options.handle, stopped_at);
        let report = report.preceded_by(row.as_slice());
        return (end(None::<S>, report, options, &guard).await, guard);
    };
    let main = main.filter(|_| is_complete);
    let bounds = Bounds::of(&server, &options);
    let before = since(stopped_at);
    guard.enter(Phase::Main);
    guard.watch(options.allowed(before, Some(bounds.total)));
    if main.is_some() {
        log::main_share(S::PLAN.name(), bounds.total, bounds.reserve);
    }
    let (stop, trigger) = stop::pair();
    let (plan, span) = {
        let server = &mut server;
        // The call is inside an async block, so that a panic in the call itself counts as a panic of main.
        let main = pin!(main.map(|main| async move { main(server, stop).await }));
        let mut main = main.is_some().then(|| MainTask::new(main));
        let reason = serve(main.as_mut(), &mut options, &mut guard).await;
        let began = stopped_at.unwrap_or_else(clock::now);
        // A server without a main counts as still serving, since it serves from its own tasks.
        let main_gone = main.as_ref().map_or(!is_complete, MainTask::has_ended);
        if let Some(main) = &mut main {
            main.record_stop();
        }
        let span = PollSpan::shutdown(S::PLAN.name(), &reason, bounds.total);
        let beginning = begin::<S, _, _>(
            &mut options,
            &bounds,
            &guard,
            (reason, began),
            main.as_mut(),
            main_gone,
        );
        let plan = span.around(beginning).await;
        start_trigger.fire();
        if let Some(main) = main {
            let latest = plan.deadline().checked_sub(bounds.reserve);
            let finishing = main.finish(&plan, latest.unwrap_or(plan.shared.began), &trigger);
            span.around(finishing).await;
        }
        (plan, span)
    };
    let report = shut_down(&mut server, plan, &options.handle, span).await;
    let report = report.preceded_by(row.as_slice());
    (end(Some(server), report, options, &guard).await, guard)
}

/// Returns the time since the start was told to stop, or zero if it was not told to.
fn since(stopped_at: Option<Instant>) -> Duration {
    stopped_at.map_or(Duration::ZERO, |stopped_at| {
        clock::now().saturating_duration_since(stopped_at)
    })
}

/// Returns the report of a run whose start returned no server.
fn without_server<S: GracefulShutdown>(
    handle: &ShutdownHandle,
    stopped_at: Option<Instant>,
) -> Report {
    let elapsed = since(stopped_at);
    let cut = Cut {
        hurried: handle.is_hurried(),
        ..Cut::default()
    };
    Report::new(S::PLAN.name(), handle.reason(), elapsed, cut, Vec::new())
}

/// Runs main and the hooks of signals until a shutdown is requested.
async fn serve<F, T>(
    mut main: Option<&mut MainTask<'_, F>>,
    options: &mut Options,
    guard: &mut Guard,
) -> Reason
where
    F: Future<Output = T>,
    T: TaskOutcome,
{
    let Options { handle, hooks, .. } = options;
    let mut requested = pin!(handle.requested());
    poll_fn(|cx| {
        // The request is checked first, since the first request gives the reason.
        if let Poll::Ready(reason) = requested.as_mut().poll(cx) {
            return Poll::Ready(reason);
        }
        while let Poll::Ready(signal) = guard.poll_hooked(cx) {
            for (_, hook) in hooks.iter_mut().filter(|(which, _)| *which == signal) {
                if let Err(message) = contain(hook) {
                    log::hook_panicked(signal, &message);
                }
            }
        }
        let Some(main) = &mut main else {
            return Poll::Pending;
        };
        main.poll(cx).map(|()| {
            handle.request(main.reason());
            handle.reason()
        })
    })
    .await
}

/// Turns readiness to draining, runs the lame duck, and starts the plan's clock. `request` holds the reason of the
/// shutdown and the time when it was requested.
async fn begin<S, F, T>(
    options: &mut Options,
    bounds: &Bounds,
    guard: &Guard,
    request: (Reason, Instant),
    main: Option<&mut MainTask<'_, F>>,
    main_gone: bool,
) -> Arc<RunningPlan>
where
    S: GracefulShutdown,
    F: Future<Output = T>,
    T: TaskOutcome,
{
    let name = S::PLAN.name();
    let (reason, began) = request;
    if let Some(readiness) = &options.readiness {
        readiness.drain();
    }
    let lame_duck = std::mem::take(&mut options.lame_duck);
    let minimum = lame_duck.minimum_for(&reason, main_gone);
    log::begin(name, &reason, minimum, bounds.total);
    guard.enter(Phase::LameDuck);
    guard.record_begin();
    let now = clock::now();
    let over = options.handle.begin_early_phase(now);
    let shared = ShutdownShared::new(reason, began);
    let plan = RunningPlan::root(name, shared, after(now, bounds.total));
    lame_duck.run(minimum, &plan, main, &over).await;
    options.handle.end_early_phase();
    plan.set_deadline(after(clock::now(), bounds.total));
    guard.enter(Phase::Plan);
    options.handle.set_running(&plan);
    plan
}

/// Runs the plan, whose clock is already running. The plan has the time that main left to it.
async fn shut_down<S: GracefulShutdown>(
    server: &mut S,
    plan: Arc<RunningPlan>,
    handle: &ShutdownHandle,
    span: PollSpan,
) -> Report {
    let resumed = state::resume(server, Arc::clone(&plan));
    handle.set_running(&resumed);
    let report = RunPlan::of(server, Arc::clone(&resumed), span).await;
    if Arc::ptr_eq(&resumed, &plan) {
        return report;
    }
    // This code is reached if main shut the server down itself, on another clock. Main's own row is in `plan`.
    plan.finish_empty();
    plan.report()
        .map_or(report.clone(), |main| report.preceded_by(main.steps()))
}
