use futures_util::FutureExt as _;
use http_body_util::BodyExt as _;

use std::num::NonZeroUsize;

use super::*;

const HEARTBEAT: Duration = Duration::from_secs(15);

fn broadcast(queue: usize, replay: usize) -> Arc<Broadcast> {
    Arc::new(Broadcast::new(NonZeroUsize::new(queue).unwrap(), replay))
}

fn publish(broadcast: &Broadcast, numbers: std::ops::Range<u32>) {
    for number in numbers {
        broadcast.publish(Event {
            id: Some(number.to_string()),
            bytes: format!("{number} ").into(),
        });
    }
}

fn listen(broadcast: &Arc<Broadcast>, last: Option<&str>) -> Option<Listener> {
    let events = broadcast.subscribe(last)?;
    Some(Listener::new(events, HEARTBEAT))
}

/// Returns the text that the listener has ready, and whether the stream has ended.
fn received(listener: &mut Listener) -> (String, bool) {
    let mut text = String::new();
    while let Some(frame) = listener.frame().now_or_never() {
        match frame {
            Some(Ok(frame)) => {
                text.push_str(std::str::from_utf8(frame.data_ref().unwrap()).unwrap());
            }
            _ => return (text, true),
        }
    }
    (text, false)
}

#[tokio::test(start_paused = true)]
async fn every_listener_gets_all_events_from_its_subscription_on() {
    let broadcast = broadcast(8, 0);
    let mut early = listen(&broadcast, None).unwrap();
    publish(&broadcast, 1..3);
    let mut late = listen(&broadcast, None).unwrap();
    publish(&broadcast, 3..4);
    assert_eq!(received(&mut early), (":\n\n1 2 3 ".into(), false));
    assert_eq!(received(&mut late), (":\n\n3 ".into(), false));
}

#[tokio::test(start_paused = true)]
async fn a_slow_listener_is_removed_after_its_queue_and_others_miss_nothing() {
    let broadcast = broadcast(2, 0);
    let mut slow = listen(&broadcast, None).unwrap();
    let mut quick = listen(&broadcast, None).unwrap();
    let mut all = String::new();
    for number in 1..6 {
        publish(&broadcast, number..number + 1);
        all += &received(&mut quick).0;
    }
    assert_eq!(all, ":\n\n1 2 3 4 5 ");
    let counts = broadcast.counts();
    assert_eq!((counts.listeners, counts.dropped, counts.events), (1, 1, 5));
    let (rest, ended) = received(&mut slow);
    assert!(rest.starts_with(":\n\n1 2 retry: "), "{rest}");
    assert!(ended);
}

#[tokio::test(start_paused = true)]
async fn a_reconnecting_listener_gets_the_missed_events_that_are_kept() {
    let broadcast = broadcast(8, 3);
    publish(&broadcast, 1..6);
    for (last, missed) in [
        (Some("4"), "5 "),
        (Some("5"), ""),
        (Some("1"), "3 4 5 "),
        (Some("other"), "3 4 5 "),
        (None, ""),
    ] {
        let mut listener = listen(&broadcast, last).unwrap();
        let text = received(&mut listener).0;
        assert_eq!(text.replace(":\n\n", ""), missed, "{last:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_listener_that_leaves_is_removed_at_once() {
    let broadcast = broadcast(1, 0);
    let listeners: Vec<_> = (0..10).map(|_| listen(&broadcast, None)).collect();
    assert_eq!(broadcast.counts().listeners, 10);
    drop(listeners);
    assert_eq!(broadcast.counts(), broadcast::Counts::default());
}

#[tokio::test(start_paused = true)]
async fn after_the_end_there_is_no_stream() {
    let broadcast = broadcast(8, 8);
    let mut listener = listen(&broadcast, None).unwrap();
    publish(&broadcast, 1..2);
    broadcast.end();
    assert_eq!(received(&mut listener), (":\n\n1 ".into(), true));
    assert!(listen(&broadcast, Some("1")).is_none());
}

#[tokio::test(start_paused = true)]
async fn silence_is_broken_by_a_comment() {
    let broadcast = broadcast(8, 0);
    let mut listener = listen(&broadcast, None).unwrap();
    assert_eq!(received(&mut listener).0, ":\n\n");
    tokio::time::advance(HEARTBEAT - Duration::from_secs(1)).await;
    publish(&broadcast, 1..2);
    assert_eq!(received(&mut listener).0, "1 ");
    tokio::time::advance(HEARTBEAT - Duration::from_secs(1)).await;
    assert_eq!(received(&mut listener).0, "", "not so soon after an event");
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(received(&mut listener).0, ":\n\n");
}
