//! `Components` holds components that are added and removed at run time, and the report has a row for each.

use lifecycle_runtime::{
    BoxError, Component, Components, Context, DynComponent, GracefulShutdown, Outcome, Reason,
    ShutdownState,
};
use lifecycle_tests::{Probe, Trace, secs};
use tokio_test::task::spawn;
use tokio_test::{assert_pending, assert_ready};

#[derive(GracefulShutdown)]
#[shutdown(timeout = "10s")]
struct Server {
    #[shutdown]
    plugins: Components,
    #[shutdown(state)]
    state: ShutdownState,
}

impl Server {
    fn new() -> Self {
        Self {
            plugins: Components::new(),
            state: ShutdownState::new(),
        }
    }
}

fn names(plugins: &Components) -> Vec<String> {
    plugins
        .names()
        .into_iter()
        .map(|(_, name)| name.into_owned())
        .collect()
}

#[tokio::test(start_paused = true)]
async fn each_component_has_its_own_row_and_all_are_cleaned_together() {
    let trace = Trace::new();
    let mut server = Server::new();
    for name in ["auth", "cache", "feed"] {
        let Ok(_) = server
            .plugins
            .insert(name, Probe::new(&trace, name).sleep(secs(2)))
        else {
            panic!("it is open")
        };
    }
    assert_eq!(names(&server.plugins), ["auth", "cache", "feed"]);
    let report = server.shutdown().await;
    assert!(report.is_clean(), "{report}");
    assert_eq!(report.elapsed(), secs(2));
    for path in ["plugins[auth]", "plugins[cache]", "plugins[feed]"] {
        assert!(
            report
                .step(path)
                .is_some_and(|step| step.outcome().is_done()),
            "{path}: {report}"
        );
    }
    assert!(server.plugins.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_component_that_fails_or_hangs_is_named_and_the_others_are_cleaned() {
    let trace = Trace::new();
    let mut server = Server::new();
    server
        .plugins
        .insert("auth", Probe::new(&trace, "auth").error("no directory"))
        .unwrap();
    server
        .plugins
        .insert("hung", Probe::new(&trace, "hung").hang().says("a lock"))
        .unwrap();
    server
        .plugins
        .insert("feed", Probe::new(&trace, "feed").panic("a bad frame"))
        .unwrap();
    server
        .plugins
        .insert("fine", Probe::new(&trace, "fine"))
        .unwrap();
    let report = server.shutdown().await;
    let outcome = |path: &str| {
        report
            .step(path)
            .unwrap_or_else(|| panic!("{path}: {report}"))
            .outcome()
    };
    assert!(
        matches!(outcome("plugins[auth]"), Outcome::Failed(error) if error.to_string() == "no directory")
    );
    assert!(
        matches!(outcome("plugins[hung]"), Outcome::TimedOut { waiting_for: Some(text) } if text == "a lock")
    );
    assert!(matches!(outcome("plugins[feed]"), Outcome::Panicked(text) if text == "a bad frame"));
    assert!(outcome("plugins[fine]").is_done());
    for name in ["auth", "hung", "feed"] {
        assert_eq!(
            trace.count(&format!("{name} aborts")),
            1,
            "{:?}",
            trace.all()
        );
    }
    assert_eq!(trace.count("fine aborts"), 0);
}

#[tokio::test]
async fn an_insert_after_the_shutdown_began_hands_the_component_back() {
    let trace = Trace::new();
    let (held, hold) = Probe::held(&trace, "held");
    let mut server = Server::new();
    let plugins = server.plugins.clone();
    plugins.insert("held", held).unwrap();
    let mut shutdown = spawn(server.shutdown());
    assert_pending!(shutdown.poll());
    let mut late = plugins
        .insert("late", Probe::new(&trace, "late"))
        .expect_err("it is handed back");
    let cx = Context::new(Reason::Requested, secs(1));
    late.cleanup(&cx).await.expect("it is whole");
    hold.release();
    assert!(assert_ready!(shutdown.poll()).is_clean());
    assert_eq!(trace.count("late begins"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_removed_component_is_cleaned_once_and_reported() {
    let trace = Trace::new();
    let mut server = Server::new();
    let auth = server
        .plugins
        .insert("auth", Probe::new(&trace, "auth"))
        .unwrap();
    let report = server.plugins.remove(auth).await.expect("it was there");
    assert!(report.is_clean());
    assert!(report.step("[auth]").is_some(), "{report}");
    assert!(server.plugins.remove(auth).await.is_none(), "it is gone");
    let report = server.shutdown().await;
    assert!(report.step("plugins[auth]").is_none(), "{report}");
    assert_eq!(trace.all(), ["auth begins", "auth ends"]);
}

#[tokio::test(start_paused = true)]
async fn a_removal_has_its_own_timeout() {
    let trace = Trace::new();
    let plugins = Components::new();
    let hung = plugins
        .insert("hung", Probe::new(&trace, "hung").hang())
        .unwrap();
    let report = plugins
        .remove_within(hung, secs(3))
        .await
        .expect("it was there");
    assert_eq!(report.elapsed(), secs(3));
    assert!(matches!(
        report.step("[hung]").unwrap().outcome(),
        Outcome::TimedOut { .. }
    ));
    assert_eq!(trace.count("hung aborts"), 1);
}

#[tokio::test(start_paused = true)]
async fn the_shutdown_awaits_a_running_removal() {
    let trace = Trace::new();
    let (auth, hold) = Probe::held(&trace, "auth");
    let mut server = Server::new();
    let plugins = server.plugins.clone();
    let id = plugins.insert("auth", auth).unwrap();
    let mut removal = spawn(plugins.remove(id));
    assert_pending!(removal.poll());
    let mut shutdown = spawn(server.shutdown());
    assert_pending!(shutdown.poll());
    hold.release();
    assert!(assert_ready!(removal.poll()).is_some_and(|report| report.is_clean()));
    drop(removal);
    assert!(shutdown.is_woken());
    assert!(assert_ready!(shutdown.poll()).is_clean());
}

#[tokio::test(start_paused = true)]
async fn a_removal_that_lasts_too_long_for_the_shutdown_is_cut_and_named() {
    let trace = Trace::new();
    let mut server = Server::new();
    let plugins = server.plugins.clone();
    let id = plugins
        .insert("auth", Probe::new(&trace, "auth").hang())
        .unwrap();
    let removal = tokio::spawn(async move { plugins.remove(id).await.is_none() });
    tokio::task::yield_now().await;
    let report = server.shutdown().await;
    let Outcome::Failed(error) = report.step("plugins").unwrap().outcome() else {
        panic!("{report}")
    };
    assert_eq!(
        error.to_string(),
        "cut at the deadline: 1 removal: auth for 9.0 s"
    );
    assert_eq!(report.elapsed(), secs(9));
    assert!(removal.await.unwrap(), "the caller learns of it");
    assert_eq!(
        trace.all(),
        ["auth begins", "auth is cut", "auth aborts", "auth releases"]
    );
}

#[tokio::test]
async fn a_removal_that_is_dropped_puts_the_component_back() {
    let trace = Trace::new();
    let (auth, hold) = Probe::held(&trace, "auth");
    let plugins = Components::new();
    let id = plugins.insert("auth", auth).unwrap();
    let mut removal = spawn(plugins.remove(id));
    assert_pending!(removal.poll());
    assert!(plugins.is_empty());
    drop(removal);
    assert_eq!(names(&plugins), ["auth"]);
    hold.release();
    assert!(
        plugins
            .remove(id)
            .await
            .is_some_and(|report| report.is_clean())
    );
    assert_eq!(
        trace.all(),
        ["auth begins", "auth is cut", "auth begins", "auth ends"]
    );
}

#[tokio::test(start_paused = true)]
async fn a_removal_that_is_dropped_after_the_shutdown_began_aborts_and_releases_the_component() {
    let trace = Trace::new();
    let mut server = Server::new();
    let plugins = server.plugins.clone();
    let id = plugins
        .insert("auth", Probe::new(&trace, "auth").hang())
        .unwrap();
    let mut removal = spawn(plugins.remove(id));
    assert_pending!(removal.poll());
    let mut shutdown = spawn(server.shutdown());
    assert_pending!(shutdown.poll());
    drop(removal);
    assert!(shutdown.is_woken());
    assert!(assert_ready!(shutdown.poll()).is_clean());
    assert_eq!(
        trace.all(),
        ["auth begins", "auth is cut", "auth aborts", "auth releases"]
    );
}

#[tokio::test(start_paused = true)]
async fn an_interrupted_shutdown_resumes_the_components_that_have_not_ended() {
    let trace = Trace::new();
    let (held, hold) = Probe::held(&trace, "held");
    let mut server = Server::new();
    let plugins = server.plugins.clone();
    plugins.insert("fast", Probe::new(&trace, "fast")).unwrap();
    let id = plugins.insert("held", held).unwrap();
    let mut shutdown = spawn(server.shutdown());
    assert_pending!(shutdown.poll());
    drop(shutdown);
    assert!(
        plugins.remove(id).await.is_none(),
        "the shutdown has taken the component"
    );
    hold.release();
    let report = server.shutdown().await;
    assert!(report.is_clean(), "{report}");
    assert!(
        report.step("plugins[fast]").is_some() && report.step("plugins[held]").is_some(),
        "{report}"
    );
    assert_eq!(trace.count("fast begins"), 1);
    assert_eq!(trace.count("held ends"), 1);
}

#[test]
fn dropping_the_last_clone_releases_the_components() {
    let trace = Trace::new();
    let plugins = Components::new();
    plugins
        .insert("bad", Probe::new(&trace, "bad").release_panics())
        .unwrap();
    plugins.insert("auth", Probe::new(&trace, "auth")).unwrap();
    drop(plugins.clone());
    assert!(trace.all().is_empty(), "a clone is not the owner");
    drop(plugins);
    assert_eq!(trace.all(), ["bad releases", "auth releases"]);
}

#[tokio::test]
async fn a_boxed_plugin_is_a_component_like_others() {
    struct Plugin(Trace);
    impl Component for Plugin {
        async fn cleanup(&mut self, _: &Context) -> Result<(), BoxError> {
            self.0.add("plugin");
            Ok(())
        }
    }
    let trace = Trace::new();
    let mut plugins = Components::new();
    let boxed: Box<dyn DynComponent> = Box::new(Plugin(trace.clone()));
    let Ok(_) = plugins.insert("boxed", boxed) else {
        panic!("it is open")
    };
    assert_eq!(plugins.len(), 1);
    plugins
        .cleanup(&Context::new(Reason::Requested, secs(1)))
        .await
        .unwrap();
    assert_eq!(trace.all(), ["plugin"]);
}

#[tokio::test(start_paused = true)]
async fn a_removal_that_is_cut_is_named_beside_those_that_failed() {
    let trace = Trace::new();
    let mut server = Server::new();
    let plugins = server.plugins.clone();
    let slow = plugins
        .insert("slow", Probe::new(&trace, "slow").hang())
        .unwrap();
    plugins
        .insert("bad", Probe::new(&trace, "bad").error("disk full"))
        .unwrap();
    // `biased` polls the removal first, so that it takes the component out before the shutdown begins.
    let (removed, report) = tokio::join!(biased; plugins.remove(slow), server.shutdown());
    assert!(removed.is_none());
    let outcome = report.step("plugins").unwrap().outcome().to_string();
    assert!(outcome.contains("[bad] failed: disk full"), "{outcome}");
    assert!(outcome.contains("1 removal: slow"), "{outcome}");
}

#[tokio::test(start_paused = true)]
async fn the_report_of_a_removal_bears_the_components_name() {
    let trace = Trace::new();
    let plugins = Components::new();
    let id = plugins
        .insert("auth", Probe::new(&trace, "auth").error("disk full"))
        .unwrap();
    let report = plugins.remove(id).await.expect("it was there");
    assert_eq!(report.component(), "auth");
    assert!(
        report
            .to_string()
            .starts_with("shutdown of auth (requested): not clean"),
        "{report}"
    );
}

#[tokio::test(start_paused = true)]
async fn the_error_of_elements_without_a_plan_reads_as_a_sentence() {
    let trace = Trace::new();
    let mut both = [
        Probe::new(&trace, "good"),
        Probe::new(&trace, "bad").error("disk full"),
    ];
    let cx = Context::new(Reason::Requested, secs(1));
    let error = both.cleanup(&cx).await.unwrap_err();
    assert_eq!(error.to_string(), "not clean: [1] failed: disk full");
}
