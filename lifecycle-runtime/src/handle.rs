//! A handle that anyone may hold: to begin the shutdown, to hear of it, to watch it.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::engine::RunningPlan;
use crate::{Outcome, Reason, clock};

/// Begins a shutdown from anywhere, and tells of it. Clones are cheap and equal.
///
/// Give it to a [`Runner`](crate::Runner) with [`handle`](crate::Runner::handle), and clones of it to
/// whoever may end the server: an admin endpoint, a task that cannot go on.
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
    /// Cancelled once a reason is set.
    requested: CancellationToken,
    plan: Mutex<Option<Arc<RunningPlan>>>,
    /// Ends the start or the lame duck, while one of them is running.
    early_phase: Mutex<Option<CancellationToken>>,
    /// Asked for by `hurry`.
    hurried: AtomicBool,
    /// When a runner took the request up.
    began: OnceLock<Instant>,
    started: watch::Sender<bool>,
}

impl ShutdownHandle {
    /// A handle that nobody has used yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks for the shutdown. The first reason wins; returns whether it was this one.
    pub fn request(&self, reason: Reason) -> bool {
        let first = self.shared.reason.set(reason).is_ok();
        self.shared.requested.cancel();
        first
    }

    /// Waits until the shutdown was asked for, and says why.
    ///
    /// # Cancel safety
    ///
    /// Safe: nothing is lost if it is dropped.
    pub async fn requested(&self) -> Reason {
        self.shared.requested.cancelled().await;
        self.reason()
    }

    /// Whether the shutdown was asked for.
    pub fn is_requested(&self) -> bool {
        self.shared.requested.is_cancelled()
    }

    /// Returns a token that is cancelled when the shutdown is asked for: before the lame duck, before main's
    /// [`Stop`](crate::Stop), and before any step.
    ///
    /// It is for tasks that exist before the runner does. It is a child: cancelling it asks for nothing.
    pub fn token(&self) -> CancellationToken {
        self.shared.requested.child_token()
    }

    /// Hurries a shutdown: cuts what may be cut and lets the rest of the plan run, each step with its own budget.
    ///
    /// The start, the lame duck, main and the `best_effort` steps that run are [`Aborted`](Outcome::Aborted) now; a `best_effort`
    /// step that begins later is polled once. Where no shutdown was asked for yet, this asks for one.
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
        // SeqCst, as in `runs` and `begin_early_phase`: of two that come at once, the later one sees what the first did.
        self.shared.hurried.store(true, Ordering::SeqCst);
        self.end_early_phase();
        if let Some(plan) = self.running() {
            plan.shared.hurry();
        }
    }

    pub(crate) fn is_hurried(&self) -> bool {
        self.shared.hurried.load(Ordering::SeqCst)
    }

    /// What the running shutdown is doing, now and as it changes.
    pub fn progress(&self) -> Progress {
        Progress {
            started: self.shared.started.subscribe(),
            changes: None,
            shared: Arc::clone(&self.shared),
        }
    }

    /// Why, once requested.
    pub(crate) fn reason(&self) -> Reason {
        self.shared.reason.get().cloned().unwrap_or_default()
    }

    pub(crate) fn runs(&self, plan: &Arc<RunningPlan>) {
        *self.shared.plan() = Some(Arc::clone(plan));
        if self.is_hurried() {
            plan.shared.hurry();
        }
        self.shared.started.send_replace(true);
    }

    /// Begins a phase before the plan, which the token ends.
    pub(crate) fn begin_early_phase(&self, began: Instant) -> CancellationToken {
        self.shared.began.get_or_init(|| began);
        let over = CancellationToken::new();
        *self.shared.early_phase() = Some(over.clone());
        if self.is_hurried() {
            over.cancel();
        }
        over
    }

    /// Ends the phase before the plan; `false` if none is running.
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

/// A watch of the running plan, from [`ShutdownHandle::progress`].
pub struct Progress {
    started: watch::Receiver<bool>,
    changes: Option<watch::Receiver<u64>>,
    shared: Arc<Shared>,
}

impl Progress {
    /// Waits until a step starts or ends, or the shutdown begins. `false` once there is nothing more
    /// to wait for: the plan has ended.
    ///
    /// Changes that come close together may be told as one.
    ///
    /// # Cancel safety
    ///
    /// Safe: a change is not lost if this is dropped.
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

    /// The steps that have not ended, the innermost of nested ones; `main` first. Empty before the
    /// shutdown and after it.
    pub fn unfinished(&self) -> Vec<StepProgress> {
        let plan = self.shared.plan().clone();
        let views = plan.map(|plan| plan.unfinished(clock::now()));
        views.unwrap_or_default()
    }

    /// The steps of the plan that have ended, with how.
    pub fn ended(&self) -> Vec<(String, Outcome)> {
        let plan = self.shared.plan().clone();
        plan.map(|plan| plan.ended()).unwrap_or_default()
    }

    /// The whole plan as it stands: every step in plan order, `main` first, each with those inside it.
    /// Empty before the shutdown.
    pub fn steps(&self) -> Vec<StepProgress> {
        let plan = self.shared.plan().clone();
        plan.map(|plan| plan.all_steps(clock::now()))
            .unwrap_or_default()
    }

    /// How long the shutdown has been going on, or took; with its lame duck. `None` before it begins.
    pub fn elapsed(&self) -> Option<Duration> {
        let plan = self.shared.plan().clone();
        if let Some(report) = plan.as_ref().and_then(|plan| plan.report()) {
            return Some(report.elapsed());
        }
        let began = plan.map(|plan| plan.shared.began);
        let began = began.or_else(|| self.shared.began.get().copied())?;
        Some(clock::now().saturating_duration_since(began))
    }

    /// How long the plan has until its deadline. `None` before it begins, during a lame duck too, and
    /// once it has ended.
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
    /// The dotted path of the step.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Whether it runs; if not, it has ended or waits for other steps.
    pub fn is_running(&self) -> bool {
        self.running
    }

    /// Whether the executor is in it this moment. If it stays there, the step blocks its thread.
    pub fn is_polled(&self) -> bool {
        self.polled
    }

    /// When it started, since the shutdown began; `None` while it waits for other steps.
    pub fn started(&self) -> Option<Duration> {
        self.started
    }

    /// How long it has run, or took.
    pub fn elapsed(&self) -> Duration {
        self.elapsed
    }

    /// How long it has until its hard deadline, if it runs.
    pub fn remaining(&self) -> Option<Duration> {
        self.remaining
    }

    /// What it says it waits for.
    pub fn waiting_for(&self) -> Option<&str> {
        self.waiting_for.as_deref()
    }

    /// How it ended, if it has.
    pub fn outcome(&self) -> Option<&Outcome> {
        self.outcome.as_ref()
    }

    /// Why it was skipped or aborted, if it was.
    pub fn why(&self) -> Option<&str> {
        self.why.as_deref()
    }

    /// Returns whether it has ended and nothing was lost, as [`Step::is_clean`](crate::Step::is_clean).
    pub fn is_clean(&self) -> bool {
        self.clean
    }

    /// The steps inside it, where [`Progress::steps`] shows it.
    pub fn steps(&self) -> &[StepProgress] {
        &self.steps
    }
}
