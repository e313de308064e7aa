//! The handle that begins a shutdown from anywhere, and the view of its progress.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::engine::RunningPlan;
use crate::{Outcome, Reason, clock};

/// A handle that requests a shutdown from anywhere, waits for one, and shows its progress. Clones are cheap and
/// equal.
///
/// Connect the handle to a [`Runner`](crate::Runner) with [`Runner::handle`](crate::Runner::handle). Pass clones to all
/// code that may end the server: an admin endpoint, or a task that cannot continue.
///
/// ```
/// use lifecycle_runtime::{Reason, ShutdownHandle};
///
/// let handle = ShutdownHandle::new();
/// let admin = handle.clone();
/// admin.request(Reason::Requested);
/// assert!(handle.is_requested());
/// ```
#[derive(Clone, Default)]
#[doc(alias("cancel", "trigger"))]
pub struct ShutdownHandle {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    reason: OnceLock<Reason>,
    /// The token that is cancelled once a reason is set.
    requested: CancellationToken,
    plan: Mutex<Option<Arc<RunningPlan>>>,
    /// The token that ends the start or the lame duck. `None` while neither is running.
    early_phase: Mutex<Option<CancellationToken>>,
    /// Whether [`ShutdownHandle::hurry`] was called.
    hurried: AtomicBool,
    /// The time when a runner began to handle the request.
    began: OnceLock<Instant>,
    started: watch::Sender<bool>,
}

impl ShutdownHandle {
    /// Creates a handle on which no shutdown is requested yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Requests a shutdown, and returns whether this was the first request. Later requests do not change the reason.
    pub fn request(&self, reason: Reason) -> bool {
        let first = self.shared.reason.set(reason).is_ok();
        self.shared.requested.cancel();
        first
    }

    /// Waits until a shutdown is requested, and returns the reason.
    ///
    /// # Cancel safety
    ///
    /// Safe: dropping the future loses nothing.
    pub async fn requested(&self) -> Reason {
        self.shared.requested.cancelled().await;
        self.reason()
    }

    /// Returns whether a shutdown was requested.
    pub fn is_requested(&self) -> bool {
        self.shared.requested.is_cancelled()
    }

    /// Returns a token that is cancelled when a shutdown is requested: before the lame duck, before main's
    /// [`Stop`](crate::Stop), and before any step.
    ///
    /// The token is meant for tasks that exist before the runner does. It is a child token: cancelling it requests no
    /// shutdown.
    pub fn token(&self) -> CancellationToken {
        self.shared.requested.child_token()
    }

    /// Hurries the shutdown: cuts everything that may be cut, and runs the rest of the plan, each step with its own
    /// time limit.
    ///
    /// The start, the lame duck, main and the running `best_effort` steps become [`Aborted`](Outcome::Aborted) now. A
    /// `best_effort` step that begins later is polled once. If no shutdown was requested yet, this requests one.
    ///
    /// ```
    /// use lifecycle_runtime::ShutdownHandle;
    ///
    /// let handle = ShutdownHandle::new();
    /// handle.hurry();
    /// assert!(handle.is_requested());
    /// ```
    pub fn hurry(&self) {
        self.request(Reason::Requested);
        // The order is SeqCst, as in `set_running` and `begin_early_phase`: of two concurrent calls, the later call
        // sees what the earlier call did.
        self.shared.hurried.store(true, Ordering::SeqCst);
        self.end_early_phase();
        if let Some(plan) = self.running() {
            plan.shared.hurry();
        }
    }

    pub(crate) fn is_hurried(&self) -> bool {
        self.shared.hurried.load(Ordering::SeqCst)
    }

    /// Returns a view of the running shutdown that can wait for its changes.
    pub fn progress(&self) -> Progress {
        Progress {
            started: self.shared.started.subscribe(),
            changes: None,
            shared: Arc::clone(&self.shared),
        }
    }

    /// Returns the reason of the shutdown, or the default reason if none was requested.
    pub(crate) fn reason(&self) -> Reason {
        self.shared.reason.get().cloned().unwrap_or_default()
    }

    pub(crate) fn set_running(&self, plan: &Arc<RunningPlan>) {
        *self.shared.plan() = Some(Arc::clone(plan));
        if self.is_hurried() {
            plan.shared.hurry();
        }
        self.shared.started.send_replace(true);
    }

    /// Begins the start's stop or the lame duck, and returns the token that ends it early.
    pub(crate) fn begin_early_phase(&self, began: Instant) -> CancellationToken {
        self.shared.began.get_or_init(|| began);
        let over = CancellationToken::new();
        *self.shared.early_phase() = Some(over.clone());
        if self.is_hurried() {
            over.cancel();
        }
        over
    }

    /// Ends the start's stop or the lame duck early. Returns `false` if neither is running.
    pub(crate) fn end_early_phase(&self) -> bool {
        let over = self.shared.early_phase().take();
        over.as_ref().inspect(|over| over.cancel()).is_some()
    }

    pub(crate) fn running(&self) -> Option<Arc<RunningPlan>> {
        self.shared.plan().clone()
    }
}

impl Shared {
    fn plan(&self) -> std::sync::MutexGuard<'_, Option<Arc<RunningPlan>>> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn early_phase(&self) -> std::sync::MutexGuard<'_, Option<CancellationToken>> {
        self.early_phase
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for ShutdownHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShutdownHandle")
            .field("reason", &self.shared.reason.get())
            .finish_non_exhaustive()
    }
}

/// A view of the running plan, from [`ShutdownHandle::progress`].
pub struct Progress {
    started: watch::Receiver<bool>,
    changes: Option<watch::Receiver<u64>>,
    shared: Arc<Shared>,
}

impl Progress {
    /// Waits until a step starts or ends, or the shutdown begins. Returns `false` once the plan has ended, so that
    /// nothing can change any more.
    ///
    /// Several changes in quick succession may be reported as a single change.
    ///
    /// # Cancel safety
    ///
    /// Safe: dropping the future loses no change.
    pub async fn changed(&mut self) -> bool {
        let plan = loop {
            if let Some(plan) = self.shared.plan().clone() {
                break plan;
            }
            if self.started.changed().await.is_err() {
                return false;
            }
        };
        let mut first = false;
        let changes = self.changes.get_or_insert_with(|| {
            first = true;
            plan.shared.watch()
        });
        if plan.report().is_some() && !changes.has_changed().unwrap_or(false) {
            return first;
        }
        first || changes.changed().await.is_ok()
    }

    /// Lists the unfinished steps, `main` first. Of nested steps it lists only the innermost ones. The list is empty
    /// before the shutdown and after it.
    pub fn unfinished(&self) -> Vec<StepProgress> {
        let plan = self.shared.plan().clone();
        let views = plan.map(|plan| plan.unfinished(clock::now()));
        views.unwrap_or_default()
    }

    /// Lists the steps of the plan that have ended, with their outcomes.
    pub fn ended(&self) -> Vec<(String, Outcome)> {
        let plan = self.shared.plan().clone();
        plan.map(|plan| plan.ended()).unwrap_or_default()
    }

    /// Lists all steps of the plan in plan order, `main` first, each with its nested steps. The list is empty before
    /// the shutdown.
    pub fn steps(&self) -> Vec<StepProgress> {
        let plan = self.shared.plan().clone();
        plan.map(|plan| plan.all_steps(clock::now()))
            .unwrap_or_default()
    }

    /// Returns how long the shutdown has been running, or how long it took if it has ended, including its lame duck.
    /// `None` before it begins.
    pub fn elapsed(&self) -> Option<Duration> {
        let plan = self.shared.plan().clone();
        if let Some(report) = plan.as_ref().and_then(|plan| plan.report()) {
            return Some(report.elapsed());
        }
        let began = plan.map(|plan| plan.shared.began);
        let began = began.or_else(|| self.shared.began.get().copied())?;
        Some(clock::now().saturating_duration_since(began))
    }

    /// Returns how long the plan has until its deadline. `None` before the plan begins (also during a lame duck), and
    /// once the plan has ended.
    pub fn remaining(&self) -> Option<Duration> {
        let plan = self.shared.plan().clone()?;
        let until = plan.deadline().saturating_duration_since(clock::now());
        plan.report().is_none().then_some(until)
    }
}

impl fmt::Debug for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Progress").finish_non_exhaustive()
    }
}

/// A step as [`Progress`] shows it.
#[derive(Clone, Debug)]
pub struct StepProgress {
    pub(crate) path: String,
    pub(crate) running: bool,
    pub(crate) polled: bool,
    pub(crate) elapsed: Duration,
    pub(crate) remaining: Option<Duration>,
    pub(crate) waiting_for: Option<String>,
    pub(crate) started: Option<Duration>,
    pub(crate) outcome: Option<Outcome>,
    pub(crate) why: Option<Box<str>>,
    pub(crate) clean: bool,
    pub(crate) steps: Vec<StepProgress>,
}

impl StepProgress {
    /// Returns the dotted path of the step.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Returns whether the step is running. A step that is not running has ended, or waits for other steps.
    pub fn is_running(&self) -> bool {
        self.running
    }

    /// Returns whether the executor is polling the step right now. A step that stays polled blocks its thread.
    pub fn is_polled(&self) -> bool {
        self.polled
    }

    /// Returns the time from the beginning of the shutdown until the step started. `None` while the step waits for
    /// other steps.
    pub fn started(&self) -> Option<Duration> {
        self.started
    }

    /// Returns how long the step has been running, or how long it took if it has ended.
    pub fn elapsed(&self) -> Duration {
        self.elapsed
    }

    /// Returns how long a running step has until its hard deadline.
    pub fn remaining(&self) -> Option<Duration> {
        self.remaining
    }

    /// Returns what the step is waiting for, as its component described it.
    pub fn waiting_for(&self) -> Option<&str> {
        self.waiting_for.as_deref()
    }

    /// Returns how the step ended. `None` as long as it has not ended.
    pub fn outcome(&self) -> Option<&Outcome> {
        self.outcome.as_ref()
    }

    /// Returns why the step was skipped or aborted. `None` if it was neither skipped nor aborted.
    pub fn why(&self) -> Option<&str> {
        self.why.as_deref()
    }

    /// Returns whether the step has ended and nothing was lost; see [`Step::is_clean`](crate::Step::is_clean).
    pub fn is_clean(&self) -> bool {
        self.clean
    }

    /// Returns the nested steps, if the view is from [`Progress::steps`].
    pub fn steps(&self) -> &[StepProgress] {
        &self.steps
    }
}
