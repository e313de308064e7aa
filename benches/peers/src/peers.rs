//! The servers, one for each peer, each written as that peer's documentation shows. Each function returns the result of
//! the shutdown as text.

use ::tokio_graceful_shutdown::{SubsystemBuilder, SubsystemHandle, Toplevel};
use ::tokio_util::sync::CancellationToken;
use ::tokio_util::task::TaskTracker;
use tokio::signal::unix::SignalKind;

use crate::part::Play;

pub async fn tokio_util(play: Play) -> String {
    let (token, tracker) = (CancellationToken::new(), TaskTracker::new());
    for name in ["A", "B"] {
        tracker.spawn(play.clone().part(name, token.clone().cancelled_owned()));
    }
    play.serving().await;
    play.call().await;
    token.cancel();
    tracker.close();
    format!("{:?}", tracker.wait().await)
}

pub async fn tokio_graceful_shutdown(play: Play) -> String {
    let root = play.clone();
    let toplevel: Toplevel = Toplevel::new(async move |root_handle: &mut SubsystemHandle| {
        for name in ["A", "B"] {
            let play = root.clone();
            let part = async move |handle: &mut SubsystemHandle| {
                play.part(name, handle.on_shutdown_requested()).await
            };
            root_handle.start(SubsystemBuilder::new(name, part));
        }
        root.serving().await;
        tokio::select! {
            () = root.call() => root_handle.request_shutdown(),
            () = root_handle.on_shutdown_requested() => {}
        }
    });
    let ended = toplevel.catch_signals();
    let ended = ended.handle_shutdown_requests(play.deadline());
    format!("{:?}", ended.await)
}

pub async fn tokio_graceful(play: Play) -> String {
    let (given, overruled) = (play.clone(), play.clone());
    let shutdown = ::tokio_graceful::Shutdown::builder()
        .with_signal(async move {
            tokio::select! {
                () = ::tokio_graceful::default_signal() => {}
                () = given.command("future") => {}
            }
        })
        .with_overwrite_fn(move || async move { overruled.command("overrule").await })
        .build();
    for name in ["A", "B"] {
        let play = play.clone();
        shutdown.spawn_task_fn(move |guard| async move {
            let _ = play.part(name, guard.cancelled()).await;
        });
    }
    play.serving().await;
    format!("{:?}", shutdown.shutdown_with_limit(play.deadline()).await)
}

pub async fn async_shutdown(play: Play) -> String {
    let manager = ::async_shutdown::ShutdownManager::new();
    for name in ["A", "B"] {
        let delay = manager.delay_shutdown_token().expect("it has just begun");
        // The task drops this token when its part has ended or failed, and the drop begins the shutdown.
        let trigger = manager.trigger_shutdown_token("a part has ended");
        let told = manager.wait_shutdown_triggered();
        let play = play.clone();
        tokio::spawn(async move {
            let _tokens = (delay, trigger);
            play.part(name, told).await
        });
    }
    play.serving().await;
    tokio::select! {
        () = play.call() => drop(manager.trigger_shutdown("a call")),
        _ = manager.wait_shutdown_triggered() => {}
    }
    format!("{:?}", manager.wait_shutdown_complete().await)
}

pub async fn drain(play: Play) -> String {
    let (signal, watch) = ::drain::channel();
    for name in ["A", "B"] {
        let (play, watch) = (play.clone(), watch.clone());
        tokio::spawn(async move {
            let mut release = None;
            let told = async { release = Some(watch.signaled().await) };
            play.part(name, told).await
        });
    }
    drop(watch);
    play.serving().await;
    play.call().await;
    format!("{:?}", signal.drain().await)
}

pub async fn elegant_departure(play: Play) -> String {
    for name in ["A", "B"] {
        let play = play.clone();
        let guard = ::elegant_departure::get_shutdown_guard();
        tokio::spawn(async move { play.part(name, guard.wait()).await });
    }
    let departure = ::elegant_departure::tokio::depart()
        .on_termination()
        .on_signal(SignalKind::hangup())
        .on_completion(play.command("future"));
    let called = async {
        play.call().await;
        ::elegant_departure::shutdown().await
    };
    let (ended, ()) = tokio::join!(
        async {
            tokio::select! {
                ended = departure => ended,
                ended = called => ended,
            }
        },
        play.serving(),
    );
    format!("{ended:?}")
}
