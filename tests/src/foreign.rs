//! For the components of other crates: an owner of one field, and a component that says what is done to it.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use lifecycle_runtime::__private as lc;
use lifecycle_runtime::{BoxError, Component, Context, GracefulShutdown, Plan, Reason, ShutdownState};
use tokio::sync::Semaphore;

/// A context outside any plan: nine seconds, and one in reserve.
pub fn context() -> Context {
    Context::new(Reason::Requested, Duration::from_secs(10))
}

/// Polls a cleanup once and drops it.
pub async fn half_way(cleanup: impl Future<Output = Result<(), BoxError>>) {
    let mut cleanup = pin!(cleanup);
    let polled = std::future::poll_fn(|cx| Poll::Ready(cleanup.as_mut().poll(cx).is_pending()));
    assert!(polled.await, "it ended in its first poll, so it was not dropped half-way");
}

/// An owner whose only step is `field`, within 10 s.
#[derive(Debug)]
pub struct Owner<T: Component> {
    pub field: T,
    state: ShutdownState,
}

impl<T: Component> Owner<T> {
    pub fn new(field: T) -> Self {
        let state = ShutdownState::new();
        Self { field, state }
    }
}

impl<T: Component> Component for Owner<T> {
    const PLAN: Plan = Plan::__new(
        "Owner",
        Some(Duration::from_secs(10)),
        const { &[lc::PlanStep::__new("field", 0).__nested(T::PLAN)] },
    );

    async fn cleanup(&mut self, cx: &Context) -> Result<(), BoxError> {
        let run = lc::Run::open_owned(cx, self, const { &Self::PLAN });
        let field = pin!(run.component(0, &mut self.field));
        run.join(&mut [field as Pin<&mut (dyn Future<Output = ()> + Send + '_)>]).await
    }

    fn release(&mut self) {
        self.field.release();
    }

    fn __plan(&self) -> lifecycle_runtime::ResolvedPlan {
        lc::resolve(self, &Self::PLAN, vec![(0, self.field.__plan())])
    }
}

impl<T: Component> GracefulShutdown for Owner<T> {
    fn __state(&self) -> &ShutdownState {
        &self.state
    }

    fn __state_mut(&mut self) -> &mut ShutdownState {
        &mut self.state
    }
}

impl<T: Component> Drop for Owner<T> {
    fn drop(&mut self) {
        lc::dropped(self);
    }
}

/// What was done to probes, in order.
#[derive(Clone, Debug, Default)]
pub struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    pub fn add(&self, entry: impl Into<String>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(entry.into());
    }

    /// Takes what is in it.
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// How the cleanup of a probe ends, once it is let go.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Ends {
    #[default]
    Well,
    Failed,
    Panicked,
}

/// A component that logs what is done to it, and whose cleanup can be held up.
#[derive(Clone, Debug)]
pub struct Probe {
    name: &'static str,
    ends: Ends,
    log: Log,
    gate: Arc<Semaphore>,
}

impl Probe {
    /// Its cleanup ends at once.
    pub fn new(name: &'static str, log: &Log) -> Self {
        Self {
            name,
            ends: Ends::Well,
            log: log.clone(),
            gate: Arc::new(Semaphore::new(Semaphore::MAX_PERMITS)),
        }
    }

    /// Its cleanup waits for [`let_go`](Self::let_go).
    pub fn held(name: &'static str, log: &Log) -> Self {
        let gate = Arc::new(Semaphore::new(0));
        Self { gate, ..Self::new(name, log) }
    }

    pub fn ending(self, ends: Ends) -> Self {
        Self { ends, ..self }
    }

    pub fn let_go(&self) {
        self.gate.add_permits(1_000);
    }

    async fn run(&self, cx: &Context) -> Result<(), BoxError> {
        self.log.add(format!("{} begins", self.name));
        let name = self.name;
        cx.waiting_for(move || format!("{name} to be let go"));
        let _held = self.gate.acquire().await?;
        match self.ends {
            Ends::Well => {
                self.log.add(format!("{} ends", self.name));
                Ok(())
            }
            Ends::Failed => Err(format!("{} failed", self.name).into()),
            Ends::Panicked => panic!("{} panicked", self.name),
        }
    }
}

/// What stands in for a probe that was taken out of a lock. It logs nothing that anyone sees.
impl Default for Probe {
    fn default() -> Self {
        Self::new("default", &Log::default())
    }
}

impl Component for Probe {
    async fn cleanup(&mut self, cx: &Context) -> Result<(), BoxError> {
        self.run(cx).await
    }

    fn abort(&mut self) {
        self.log.add(format!("{} aborted", self.name));
    }

    fn release(&mut self) {
        self.log.add(format!("{} released", self.name));
    }
}

impl Component for &Probe {
    async fn cleanup(&mut self, cx: &Context) -> Result<(), BoxError> {
        self.run(cx).await
    }

    fn abort(&mut self) {
        self.log.add(format!("{} aborted", self.name));
    }

    fn release(&mut self) {
        self.log.add(format!("{} released", self.name));
    }
}

/// A probe that states a budget: a part with one step of three seconds.
#[derive(Debug)]
pub struct Timed(pub Probe);

impl Component for Timed {
    const PLAN: Plan = Plan::__new(
        "Timed",
        None,
        const { &[lc::PlanStep::__new("probe", 0).__timeout(Duration::from_secs(3))] },
    );

    async fn cleanup(&mut self, cx: &Context) -> Result<(), BoxError> {
        let run = lc::Run::open(cx, self, const { &Self::PLAN });
        let probe = pin!(run.component(0, &mut self.0));
        run.join(&mut [probe as Pin<&mut (dyn Future<Output = ()> + Send + '_)>]).await
    }

    fn abort(&mut self) {
        self.0.abort();
    }

    fn release(&mut self) {
        self.0.release();
    }
}
