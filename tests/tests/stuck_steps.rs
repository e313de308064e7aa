//! The progress of a running shutdown names each stuck step, with what that step waits for.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use lifecycle_runtime::{
    BoxError, Component, Context, DynComponent, GracefulShutdown, Outcome, Reason, Runner,
    ShutdownHandle, ShutdownState, StepProgress,
};
use lifecycle_tests::{Probe, Storage, Trace, ms, secs};
use tokio_test::task::spawn;
use tokio_test::{assert_pending, assert_ready};

#[derive(GracefulShutdown)]
#[shutdown(timeout = "20s")]
struct Server {
    #[shutdown(timeout = "4s")]
    drain: Probe,
    #[shutdown]
    storage: Storage,
    #[shutdown]
    plugins: std::collections::BTreeMap<&'static str, Probe>,
    #[shutdown(state)]
    state: ShutdownState,
}

fn paths(steps: &[StepProgress]) -> Vec<(&str, bool)> {
    steps
        .iter()
        .map(|step| (step.path(), step.is_running()))
        .collect()
}

#[tokio::test(start_paused = true)]
async fn progress_shows_the_running_steps_what_they_wait_for_and_the_ended_ones() {
    let trace = Trace::new();
    let (drain, hold_drain) = Probe::held(&trace, "drain");
    let (writer, hold_writer) = Probe::held(&trace, "writer");
    let (auth, hold_auth) = Probe::held(&trace, "auth");
    let plugins = [
        ("auth", auth.says("the directory")),
        ("log", Probe::new(&trace, "log")),
    ];
    let server = Server {
        drain: drain.says("3 connections"),
        storage: Storage {
            writer: writer.says("the disk"),
            disk: Probe::new(&trace, "disk"),
        },
        plugins: plugins.into(),
        state: ShutdownState::new(),
    };
    let handle = ShutdownHandle::new();
    let mut progress = handle.progress();
    assert_eq!(paths(&progress.unfinished()), [], "it has not begun");
    let mut run = spawn(
        Runner::new(server)
            .handle(&handle)
            .run(async |_: &mut Server, stop| stop.cancelled().await),
    );
    // The runner begins the shutdown only after its signal thread has registered the signals. So the test polls until
    // the shutdown has begun.
    while handle.progress().unfinished().is_empty() {
        assert_pending!(run.poll());
        handle.request(Reason::Requested);
        tokio::task::yield_now().await;
    }
    assert!(progress.changed().await);

    let open = progress.unfinished();
    assert_eq!(
        paths(&open),
        [("drain", true), ("storage", false), ("plugins", false)]
    );
    assert_eq!(open[0].waiting_for(), Some("3 connections"));
    assert_eq!(open[0].remaining(), Some(secs(4)));
    assert_eq!((open[1].waiting_for(), open[1].remaining()), (None, None));

    tokio::time::advance(secs(1)).await;
    let open = progress.unfinished();
    assert_eq!(
        (open[0].elapsed(), open[0].remaining()),
        (secs(1), Some(secs(3)))
    );

    hold_drain.release();
    assert_pending!(run.poll());
    assert!(progress.changed().await);
    let open = progress.unfinished();
    assert_eq!(
        paths(&open),
        [
            ("storage.writer", true),
            ("storage.disk", false),
            ("plugins", false)
        ]
    );
    assert_eq!(open[0].waiting_for(), Some("the disk"));

    hold_writer.release();
    assert_pending!(run.poll());
    let open = progress.unfinished();
    assert_eq!(paths(&open), [("plugins[auth]", true)]);
    assert_eq!(open[0].waiting_for(), Some("the directory"));
    let ended: Vec<_> = progress.ended().into_iter().map(|(path, _)| path).collect();
    assert_eq!(ended, ["main", "drain", "storage"]);

    hold_auth.release();
    while run.poll().is_pending() {
        tokio::task::yield_now().await;
    }
    assert_eq!(paths(&progress.unfinished()), []);
    while progress.changed().await {}
    assert!(
        !progress.changed().await,
        "there is nothing more to wait for"
    );
}

/// Returns the path, start, elapsed time and outcome of each step as text.
fn rows(steps: &[StepProgress]) -> Vec<String> {
    let row = |step: &StepProgress| {
        let started = step.started().map(|at| at.as_secs());
        let ended = step.outcome().map(ToString::to_string);
        let (path, took) = (step.path(), step.elapsed().as_secs());
        format!("{path} {started:?} {took} {}", ended.unwrap_or_default())
    };
    let of = |step: &StepProgress| [vec![row(step)], rows(step.steps())].concat();
    steps.iter().flat_map(of).collect()
}

#[tokio::test(start_paused = true)]
async fn progress_shows_the_whole_plan_with_times_until_its_end() {
    let trace = Trace::new();
    let (drain, hold_drain) = Probe::held(&trace, "drain");
    let (disk, hold_disk) = Probe::held(&trace, "disk");
    let server = Server {
        drain,
        storage: Storage {
            writer: Probe::new(&trace, "writer").error("full"),
            disk: disk.says("fsync"),
        },
        plugins: [("auth", Probe::new(&trace, "auth"))].into(),
        state: ShutdownState::new(),
    };
    let handle = ShutdownHandle::new();
    let progress = handle.progress();
    assert_eq!((progress.elapsed(), progress.remaining()), (None, None));
    assert!(progress.steps().is_empty());
    let mut run = spawn(
        Runner::new(server)
            .handle(&handle)
            .run(async |_: &mut Server, stop| stop.cancelled().await),
    );
    while progress.unfinished().is_empty() {
        assert_pending!(run.poll());
        handle.request(Reason::Requested);
        tokio::task::yield_now().await;
    }
    tokio::time::advance(secs(1)).await;
    assert_eq!(
        (progress.elapsed(), progress.remaining()),
        (Some(secs(1)), Some(secs(19)))
    );
    assert_eq!(
        rows(&progress.steps()),
        [
            "main Some(0) 0 done",
            "drain Some(0) 1 ",
            "storage None 0 ",
            "plugins None 0 "
        ]
    );

    hold_drain.release();
    assert_pending!(run.poll());
    tokio::time::advance(secs(2)).await;
    let steps = progress.steps();
    assert_eq!(
        rows(&steps),
        [
            "main Some(0) 0 done",
            "drain Some(0) 1 done",
            "storage Some(1) 2 ",
            "storage.writer Some(1) 0 failed: full",
            "storage.disk Some(1) 2 ",
            "plugins None 0 "
        ]
    );
    let disk = &steps[2].steps()[1];
    assert_eq!(
        (disk.waiting_for(), disk.is_running()),
        (Some("fsync"), true)
    );
    assert!(!steps[1].is_running() && steps[1].remaining().is_none());

    hold_disk.release();
    while run.poll().is_pending() {
        tokio::task::yield_now().await;
    }
    assert_eq!(
        rows(&progress.steps())[1..],
        [
            "drain Some(0) 1 done",
            "storage Some(1) 2 failed: the shutdown of Storage was not clean: writer failed: full",
            "storage.writer Some(1) 0 failed: full",
            "storage.disk Some(1) 2 done",
            "plugins Some(3) 0 done",
            "plugins[auth] Some(3) 0 done"
        ]
    );
    assert_eq!(
        (progress.elapsed(), progress.remaining()),
        (Some(secs(3)), None)
    );
}

#[tokio::test(start_paused = true)]
async fn a_watcher_of_a_shutdown_learns_of_its_end() {
    let trace = Trace::new();
    let (drain, hold) = Probe::held(&trace, "drain");
    let storage = Storage {
        writer: Probe::new(&trace, "writer"),
        disk: Probe::new(&trace, "disk"),
    };
    let server = Server {
        drain,
        storage,
        plugins: [].into(),
        state: ShutdownState::new(),
    };
    let handle = ShutdownHandle::new();
    let mut progress = handle.progress();
    let watch = tokio::spawn(async move {
        let mut seen = 0;
        while progress.changed().await {
            seen += 1;
        }
        (seen, progress.ended().len())
    });
    handle.request(Reason::Requested);
    let run = tokio::spawn(Runner::new(server).handle(&handle).run_until_signal());
    let mut progress = handle.progress();
    while progress.unfinished().is_empty() {
        progress.changed().await;
    }
    hold.release();
    assert!(run.await.unwrap().is_clean());
    let (seen, ended) = watch.await.unwrap();
    assert!(seen >= 1);
    assert_eq!(ended, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watcher_on_another_thread_never_misses_the_end() {
    let bound = std::time::Duration::from_secs(60);
    for _ in 0..300 {
        let trace = Trace::new();
        let storage = Storage {
            writer: Probe::new(&trace, "writer"),
            disk: Probe::new(&trace, "disk"),
        };
        let server = Server {
            drain: Probe::new(&trace, "drain"),
            storage,
            plugins: [("auth", Probe::new(&trace, "auth"))].into(),
            state: ShutdownState::new(),
        };
        let handle = ShutdownHandle::new();
        let mut progress = handle.progress();
        let watch = tokio::spawn(async move {
            while progress.changed().await {}
            progress.unfinished().len()
        });
        let run = tokio::spawn(Runner::new(server).handle(&handle).run_until_signal());
        handle.request(Reason::Requested);
        assert!(run.await.unwrap().is_clean());
        let left = tokio::time::timeout(bound, watch)
            .await
            .expect("it hears of the end");
        assert_eq!(left.unwrap(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn the_waiting_for_closure_is_called_when_the_step_is_cut() {
    struct Drain(Arc<AtomicUsize>);
    impl Component for Drain {
        async fn cleanup(&mut self, cx: &Context) -> Result<(), BoxError> {
            let open = Arc::clone(&self.0);
            cx.waiting_for(|| "what was said first".into());
            cx.waiting_for(move || format!("{} connections", open.load(Ordering::Relaxed)));
            tokio::time::sleep(secs(1)).await;
            self.0.store(2, Ordering::Relaxed);
            std::future::pending().await
        }
    }
    #[derive(GracefulShutdown)]
    struct Server {
        #[shutdown(timeout = "3s")]
        drain: Drain,
        #[shutdown(state)]
        state: ShutdownState,
    }
    let mut server = Server {
        drain: Drain(Arc::new(AtomicUsize::new(7))),
        state: ShutdownState::new(),
    };
    let report = server.shutdown().await;
    let Outcome::TimedOut { waiting_for } = report.step("drain").unwrap().outcome() else {
        panic!("{report}")
    };
    assert_eq!(waiting_for.as_deref(), Some("2 connections"));
}

#[tokio::test(start_paused = true)]
async fn the_waiting_for_closure_of_an_interrupted_run_is_not_used_by_the_next() {
    struct Twice(bool);
    impl Component for Twice {
        async fn cleanup(&mut self, cx: &Context) -> Result<(), BoxError> {
            if !std::mem::replace(&mut self.0, true) {
                cx.waiting_for(|| "the first run".into());
            }
            std::future::pending().await
        }
    }
    #[derive(GracefulShutdown)]
    struct Server {
        #[shutdown(timeout = "3s")]
        twice: Twice,
        #[shutdown(state)]
        state: ShutdownState,
    }
    let mut server = Server {
        twice: Twice(false),
        state: ShutdownState::new(),
    };
    assert_pending!(spawn(server.shutdown()).poll());
    let report = server.shutdown().await;
    let outcome = report.step("twice").unwrap().outcome();
    assert!(
        matches!(outcome, Outcome::TimedOut { waiting_for: None }),
        "{report}"
    );
}

#[tokio::test(start_paused = true)]
async fn hooks_of_an_interrupted_run_are_gone_in_the_next() {
    struct Hooks(Arc<()>);
    impl Component for Hooks {
        async fn cleanup(&mut self, cx: &Context) -> Result<(), BoxError> {
            let held = Arc::clone(&self.0);
            cx.on_force(move || drop(held));
            std::future::pending().await
        }
    }
    #[derive(GracefulShutdown)]
    struct Server {
        #[shutdown(timeout = "3s")]
        hooks: Hooks,
        #[shutdown(state)]
        state: ShutdownState,
    }
    let held = Arc::new(());
    let mut server = Server {
        hooks: Hooks(Arc::clone(&held)),
        state: ShutdownState::new(),
    };
    for _ in 0..3 {
        assert_pending!(spawn(server.shutdown()).poll());
        assert_eq!(
            Arc::strong_count(&held),
            3,
            "this test's, the component's and one hook's"
        );
    }
    server.shutdown().await;
    assert_eq!(
        Arc::strong_count(&held),
        2,
        "a step that has ended has no hooks"
    );
}

#[tokio::test(start_paused = true)]
async fn every_element_of_a_container_has_its_own_row() {
    #[derive(GracefulShutdown)]
    struct Server {
        #[shutdown(timeout = "2s")]
        plugins: std::collections::BTreeMap<&'static str, Probe>,
        #[shutdown]
        boxed: Vec<Box<dyn DynComponent>>,
        #[shutdown]
        shards: [Storage; 2],
        #[shutdown(state)]
        state: ShutdownState,
    }
    let trace = Trace::new();
    let probe = |name| Probe::new(&trace, name);
    let storage = |writer, disk| Storage {
        writer: probe(writer),
        disk: probe(disk),
    };
    let failing = Storage {
        writer: probe("w1"),
        disk: probe("d1").panic("bad sector"),
    };
    let mut server = Server {
        plugins: [
            ("auth", probe("auth").hang().says("the directory")),
            ("log", probe("log")),
            ("mail", probe("mail").error("spam")),
        ]
        .into(),
        boxed: vec![Box::new(probe("boxed")), Box::new(storage("w", "d"))],
        shards: [storage("w0", "d0"), failing],
        state: ShutdownState::new(),
    };
    let report = server.shutdown().await;
    let outcome = |path: &str| {
        report
            .step(path)
            .unwrap_or_else(|| panic!("no `{path}`: {report}"))
            .outcome()
    };
    assert!(
        matches!(outcome("plugins[auth]"), Outcome::TimedOut { waiting_for: Some(what) } if what == "the directory")
    );
    assert!(outcome("plugins[log]").is_done());
    assert!(matches!(outcome("plugins[mail]"), Outcome::Failed(_)));
    assert!(
        !outcome("plugins").is_done(),
        "a container is done only if its elements are"
    );
    assert!(outcome("boxed[0]").is_done());
    assert!(outcome("boxed[1].disk").is_done());
    assert!(outcome("shards[0].writer").is_done());
    assert!(matches!(outcome("shards[1].disk"), Outcome::Panicked(_)));
    assert!(report.step("plugins[nobody]").is_none());
    assert_eq!(
        (
            trace.count("auth aborts"),
            trace.count("log aborts"),
            trace.count("mail aborts")
        ),
        (1, 0, 1)
    );
}

#[tokio::test(start_paused = true)]
async fn elements_are_cleaned_together() {
    #[derive(GracefulShutdown)]
    struct Server {
        #[shutdown]
        list: Vec<Probe>,
        #[shutdown(state)]
        state: ShutdownState,
    }
    let trace = Trace::new();
    let list = (0..100)
        .map(|_| Probe::new(&trace, "one").sleep(ms(200)))
        .collect();
    let report = Server {
        list,
        state: ShutdownState::new(),
    }
    .shutdown()
    .await;
    assert!(report.is_clean(), "{report}");
    assert_eq!(report.elapsed(), ms(200));
}

#[tokio::test(start_paused = true)]
async fn elements_cleaned_by_hand_are_cut_at_the_contexts_deadline() {
    let trace = Trace::new();
    let mut list = vec![
        Probe::new(&trace, "hangs").hang(),
        Probe::new(&trace, "ends"),
    ];
    let cx = Context::new(Reason::Requested, secs(10));
    let error = list.cleanup(&cx).await.unwrap_err();
    assert!(error.to_string().contains("[0] timed out"), "{error}");
    assert_eq!(trace.when("hangs aborts"), secs(10));
    assert_eq!(trace.count("ends ends"), 1);
}

#[tokio::test(start_paused = true)]
async fn an_on_force_hook_runs_only_in_a_forced_end() {
    struct Hooked(Trace, bool);
    impl Component for Hooked {
        async fn cleanup(&mut self, cx: &Context) -> Result<(), BoxError> {
            let trace = self.0.clone();
            cx.on_force(move || trace.add("forced"));
            if self.1 {
                Ok(())
            } else {
                std::future::pending().await
            }
        }
    }
    #[derive(GracefulShutdown)]
    struct Server {
        #[shutdown(timeout = "1s")]
        cut: Hooked,
        #[shutdown]
        ends: Hooked,
        #[shutdown(state)]
        state: ShutdownState,
    }
    let trace = Trace::new();
    let mut server = Server {
        cut: Hooked(trace.clone(), false),
        ends: Hooked(trace.clone(), true),
        state: ShutdownState::new(),
    };
    server.shutdown().await;
    assert_eq!(trace.all(), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn the_context_has_the_reason_and_the_deadlines() {
    struct Asks(Trace);
    impl Component for Asks {
        async fn cleanup(&mut self, cx: &Context) -> Result<(), BoxError> {
            self.0.add(format!("{} {:?}", cx.reason(), cx.remaining()));
            tokio::time::sleep(secs(2)).await;
            self.0.add(format!("{:?}", cx.remaining()));
            Ok(())
        }
    }
    #[derive(GracefulShutdown)]
    struct Server {
        #[shutdown(timeout = "10s")]
        asks: Asks,
        #[shutdown(state)]
        state: ShutdownState,
    }
    let trace = Trace::new();
    let mut server = Server {
        asks: Asks(trace.clone()),
        state: ShutdownState::new(),
    };
    let mut shutdown = spawn(server.shutdown().reason(Reason::MainEnded));
    assert_pending!(shutdown.poll());
    tokio::time::advance(secs(2)).await;
    assert_ready!(shutdown.poll());
    assert_eq!(trace.all(), ["main ended 9s", "7s"]);
}

#[tokio::test(start_paused = true)]
async fn a_best_effort_step_is_clean_once_it_has_ended_and_not_before() {
    #[derive(GracefulShutdown)]
    struct Extras {
        #[shutdown(best_effort)]
        cache: Probe,
        #[shutdown]
        pool: Probe,
        #[shutdown(state)]
        state: ShutdownState,
    }
    let trace = Trace::new();
    let (cache, hold) = Probe::held(&trace, "cache");
    let handle = ShutdownHandle::new();
    let server = Extras {
        cache,
        pool: Probe::new(&trace, "pool").hang(),
        state: ShutdownState::new(),
    };
    let runner = Runner::new(server).handle(&handle);
    let mut run = spawn(runner.run(async |_: &mut Extras, stop| stop.cancelled().await));
    // The runner begins the shutdown only after its signal thread has registered the signals. So the test polls until
    // the shutdown has begun.
    while trace.count("cache begins") == 0 {
        assert_pending!(run.poll());
        handle.request(Reason::Requested);
        tokio::task::yield_now().await;
    }
    let is_clean = || {
        let steps = handle.progress().steps();
        let cache = steps.iter().find(|step| step.path() == "cache");
        cache.unwrap().is_clean()
    };
    assert!(!is_clean());
    hold.release();
    assert_pending!(run.poll());
    assert!(is_clean());
}

#[tokio::test(start_paused = true)]
async fn a_closure_held_by_the_engine_may_look_at_the_shutdown_in_its_drop() {
    struct Looks(ShutdownHandle);
    impl Drop for Looks {
        fn drop(&mut self) {
            let _ = self.0.progress().steps();
        }
    }
    struct Leaves(ShutdownHandle);
    impl Component for Leaves {
        async fn cleanup(&mut self, cx: &Context) -> Result<(), BoxError> {
            for _ in 0..2 {
                let looks = Looks(self.0.clone());
                cx.waiting_for(move || {
                    let _ = &looks;
                    String::new()
                });
            }
            Ok(())
        }
    }
    #[derive(GracefulShutdown)]
    struct Looked {
        #[shutdown]
        leaves: Leaves,
        #[shutdown(state)]
        state: ShutdownState,
    }
    let handle = ShutdownHandle::new();
    let server = Looked {
        leaves: Leaves(handle.clone()),
        state: ShutdownState::new(),
    };
    let runner = Runner::new(server).handle(&handle);
    let report = runner.run(async |_: &mut Looked, _| {}).await;
    assert!(report.is_clean(), "{report}");
}
