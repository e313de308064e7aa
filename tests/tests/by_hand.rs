//! What the derive writes, written by hand: the engine's own contract.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use lifecycle_runtime::{BoxError, Component, Context, GracefulShutdown, Outcome, ShutdownState};
use lifecycle_runtime::__private as __lc;

#[derive(Clone, Default)]
struct Trace(Arc<Mutex<Vec<String>>>);
impl Trace {
    fn add(&self, s: &str) {
        self.0.lock().unwrap().push(s.into());
    }
    fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

struct Leaf {
    name: &'static str,
    trace: Trace,
    takes: Duration,
}
impl Component for Leaf {
    async fn cleanup(&mut self, cx: &Context) -> Result<(), BoxError> {
        cx.waiting_for(|| "the sleep".into());
        tokio::time::sleep(self.takes).await;
        self.trace.add(self.name);
        Ok(())
    }
    fn abort(&mut self) {
        self.trace.add(&format!("abort {}", self.name));
    }
    fn release(&mut self) {
        self.trace.add(&format!("release {}", self.name));
    }
}

struct Pool(Trace);
impl Pool {
    async fn close(&self) -> std::io::Result<()> {
        self.0.add("pool");
        Err(std::io::Error::other("disk full"))
    }
}
struct Config {
    label: &'static str,
}

struct Server<T: Component> {
    a: Leaf,
    b: T,
    pool: Option<Arc<Pool>>,
    config: Config,
    state: ShutdownState,
}

const _: () = {
    impl<T: Component> __lc::Component for Server<T> {
        const PLAN: __lc::Plan = __lc::Plan::__new(
            "Server",
            __lc::Some(__lc::Duration::new(25, 0)),
            const {
                &[
                    __lc::PlanStep::__new("a", 0).__nested(<Leaf as __lc::Component>::PLAN),
                    __lc::PlanStep::__new("b", 10)
                        .__after(&[0])
                        .__timeout(__lc::Duration::new(2, 0))
                        .__nested(<T as __lc::Component>::PLAN),
                    __lc::PlanStep::__new("pool", 20).__after(&[1]).__how("with a closure"),
                ]
            },
        );
        fn cleanup(
            &mut self,
            __cx: &__lc::Context,
        ) -> impl __lc::Future<Output = __lc::Result<(), __lc::BoxError>> + __lc::Send {
            async move {
                let __run = __lc::Run::open_owned(
                    __cx,
                    &mut *self,
                    const { &<Self as __lc::Component>::PLAN },
                );
                let Self {
                    a: __f0,
                    b: __f1,
                    pool: __f2,
                    config: __f3,
                    ..
                } = self;
                let __f3 = &*__f3;
                let mut __s0 = __lc::pin!(__run.component(0, __f0));
                let mut __s1 = __lc::pin!(__run.component(1, __f1));
                let mut __s2 = __lc::pin!(async {
                    let __step = __run.step(2);
                    let __end = __step
                        .run(async {
                            match __f2 {
                                __lc::Some(__v) => __lc::settle!(__lc::call_cx(
                                    |pool, _cx| {
                                        pool.0.add((*__f3).label);
                                        pool.close()
                                    },
                                    __v,
                                    __step.cx()
                                )),
                                __lc::None => __lc::Ok(()),
                            }
                        })
                        .await;
                    __step.end(__end, || {});
                });
                __run
                    .join(&mut [
                        __s0.as_mut() as __lc::Pin<&mut (dyn __lc::Future<Output = ()> + __lc::Send + '_)>,
                        __s1.as_mut(),
                        __s2.as_mut(),
                    ])
                    .await
            }
        }
        fn release(&mut self) {
            __lc::contain(|| __lc::Component::release(&mut self.a));
            __lc::contain(|| __lc::Component::release(&mut self.b));
        }
    }
    impl<T: Component> __lc::GracefulShutdown for Server<T> {
        fn __state(&self) -> &ShutdownState {
            &self.state
        }
        fn __state_mut(&mut self) -> &mut ShutdownState {
            &mut self.state
        }
    }
    impl<T: Component> Drop for Server<T> {
        fn drop(&mut self) {
            __lc::dropped(self);
        }
    }
    const _: () = __lc::prove(&<Server<Leaf> as __lc::Component>::PLAN);
};

fn server(trace: &Trace, a: u64, b: u64) -> Server<Leaf> {
    let leaf = |name, ms| Leaf {
        name,
        trace: trace.clone(),
        takes: Duration::from_millis(ms),
    };
    Server {
        a: leaf("a", a),
        b: leaf("b", b),
        pool: Some(Arc::new(Pool(trace.clone()))),
        config: Config { label: "label" },
        state: ShutdownState::new(),
    }
}

#[tokio::test(start_paused = true)]
async fn steps_run_in_order_and_the_report_names_the_failure() {
    let trace = Trace::default();
    let mut server = server(&trace, 100, 200);
    let report = server.shutdown().await;
    assert_eq!(trace.all(), ["a", "b", "label", "pool"]);
    println!("{}\n{report}\n{}", Server::<Leaf>::PLAN, report.to_mermaid());
    println!("{}", Server::<Leaf>::PLAN.to_mermaid());
    assert!(matches!(report.step("pool").unwrap().outcome(), Outcome::Failed(e) if e.to_string() == "disk full"));
    assert_eq!(report.exit_code(), 1);
    assert_eq!(server.shutdown().await.steps().len(), 3);
    assert_eq!(trace.all().len(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_step_that_hangs_is_cut_aborted_and_named() {
    let trace = Trace::default();
    let mut server = server(&trace, 10, 100_000);
    let report = server.shutdown().await;
    assert_eq!(trace.all(), ["a", "abort b", "label", "pool"]);
    println!("{report}");
    let b = report.step("b").unwrap();
    assert!(matches!(b.outcome(), Outcome::TimedOut { waiting_for: Some(w) } if w == "the sleep"));
    assert_eq!(b.elapsed(), Duration::from_secs(2));
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_dropped_half_way_is_taken_up() {
    let trace = Trace::default();
    let mut server = server(&trace, 10, 1_000);
    assert!(tokio::time::timeout(Duration::from_millis(500), server.shutdown()).await.is_err());
    assert_eq!(trace.all(), ["a"]);
    let report = server.shutdown().await;
    assert_eq!(trace.all(), ["a", "b", "label", "pool"]);
    println!("{report}");
    drop(server);
    assert_eq!(trace.all().len(), 4);
}

#[tokio::test]
async fn dropping_releases() {
    let trace = Trace::default();
    drop(server(&trace, 10, 1_000));
    assert_eq!(trace.all(), ["release a", "release b"]);
}
