//! A struct that uses every attribute compiles and shuts down.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use lifecycle_runtime::{BoxError, Component, Context, GracefulShutdown, Outcome, ShutdownState};
use tokio_util::sync::CancellationToken;

type Log = Arc<Mutex<Vec<&'static str>>>;

struct Value(&'static str, Log);

impl Value {
    fn note(&self) {
        self.1.lock().unwrap().push(self.0);
    }

    async fn close(&self) -> Result<(), std::io::Error> {
        self.note();
        Ok(())
    }

    fn sync(&mut self) -> Result<(), String> {
        self.note();
        Ok(())
    }

    async fn finish(self) {
        self.note();
    }

    fn fail(&self) -> Result<(), String> {
        self.note();
        Err("out of paper".into())
    }
}

impl Component for Value {
    async fn cleanup(&mut self, _: &Context) -> Result<(), BoxError> {
        self.note();
        Ok(())
    }
}

#[derive(GracefulShutdown)]
#[shutdown(timeout = self.grace, at_most = "40s", name = "the server", strict, crate = ::lifecycle_runtime)]
struct Server {
    #[shutdown(priority = 0)]
    token: CancellationToken,
    #[shutdown(priority = 1, timeout = "2s", required)]
    component: Value,
    #[shutdown(priority = 2, with = Value::close, timeout = self.grace / 4, at_most = "5s")]
    path: Option<Arc<Value>>,
    #[shutdown(after = path, with = |value, cx| { let _ = cx.remaining() <= self.grace; value.close() })]
    closure: Value,
    #[shutdown(after(path, closure), with = Value::finish, take)]
    taken: Option<Value>,
    #[shutdown(after = taken, with = Value::sync, blocking)]
    blocking: Option<Value>,
    #[shutdown(after = blocking, with = Value::fail, abort = |value| self.log.lock().unwrap().push(value.0), best_effort)]
    failing: Value,
    #[shutdown(priority = 3, leaf)]
    part: Part,
    #[shutdown(priority = 4)]
    either: Either,
    #[shutdown(skip)]
    grace: Duration,
    #[shutdown(skip)]
    log: Log,
    #[shutdown(state)]
    state: ShutdownState,
}

#[derive(GracefulShutdown)]
#[shutdown(part)]
struct Part(#[shutdown] Value, #[shutdown] Value);

#[derive(GracefulShutdown)]
enum Either {
    Live(#[shutdown(timeout = "1s")] Value),
    #[allow(dead_code)] // No test creates this variant.
    Gone,
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let log = Log::default();
    let value = |name| Value(name, log.clone());
    let mut server = Server {
        token: CancellationToken::new(),
        component: value("component"),
        path: Some(Arc::new(value("path"))),
        closure: value("closure"),
        taken: Some(value("taken")),
        blocking: Some(value("blocking")),
        failing: value("failing"),
        part: Part(value("part.0"), value("part.1")),
        either: Either::Live(value("either")),
        grace: Duration::from_secs(20),
        log: log.clone(),
        state: ShutdownState::new(),
    };
    assert_eq!(Server::PLAN.budget(), Some(Duration::from_secs(40)));
    let plan = server.plan().to_string();
    assert!(plan.contains("the server"), "{plan}");

    let report = server.shutdown().await;
    assert!(report.is_clean(), "{report}");
    assert!(server.token.is_cancelled() && server.taken.is_none() && server.blocking.is_some());
    assert!(matches!(report.step("failing").map(|step| step.outcome()), Some(Outcome::Failed(..))));
    assert_eq!(
        *log.lock().unwrap(),
        ["component", "path", "closure", "taken", "blocking", "failing", "failing", "part.0", "part.1", "either"]
    );
}
