use futures_util::FutureExt as _;
use http_body_util::BodyExt as _;

use std::num::NonZeroUsize;

use super::*;

const BEAT: Duration = Duration::from_secs(15);

fn hub(queue: usize, replay: usize) -> Arc<Hub> {
    Arc::new(Hub::new(NonZeroUsize::new(queue).unwrap(), replay))
}

fn publish(hub: &Hub, numbers: std::ops::Range<u32>) {
    for number in numbers {
        hub.publish(Event {
            id: Some(number.to_string()),
            bytes: format!("{number} ").into(),
        });
    }
}

fn listen(hub: &Arc<Hub>, last: Option<&str>) -> Option<Listener> {
    let events = hub.subscribe(last)?;
    Some(Listener::new(events, BEAT))
}

/// What the listener is sent without waiting, and whether that is all.
fn heard(listener: &mut Listener) -> (String, bool) {
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
async fn all_hear_every_event_from_when_they_came() {
    let hub = hub(8, 0);
    let mut early = listen(&hub, None).unwrap();
    publish(&hub, 1..3);
    let mut late = listen(&hub, None).unwrap();
    publish(&hub, 3..4);
    assert_eq!(heard(&mut early), (":\n\n1 2 3 ".into(), false));
    assert_eq!(heard(&mut late), (":\n\n3 ".into(), false));
}

#[tokio::test(start_paused = true)]
async fn one_who_is_slow_is_let_go_after_what_waits_and_the_others_miss_nothing() {
    let hub = hub(2, 0);
    let mut slow = listen(&hub, None).unwrap();
    let mut quick = listen(&hub, None).unwrap();
    let mut all = String::new();
    for number in 1..6 {
        publish(&hub, number..number + 1);
        all += &heard(&mut quick).0;
    }
    assert_eq!(all, ":\n\n1 2 3 4 5 ");
    let counts = hub.counts();
    assert_eq!((counts.listeners, counts.dropped, counts.events), (1, 1, 5));
    let (rest, ended) = heard(&mut slow);
    assert!(rest.starts_with(":\n\n1 2 retry: "), "{rest}");
    assert!(ended);
}

#[tokio::test(start_paused = true)]
async fn one_who_comes_again_hears_what_was_missed_as_far_as_it_is_kept() {
    let hub = hub(8, 3);
    publish(&hub, 1..6);
    for (last, missed) in [
        (Some("4"), "5 "),
        (Some("5"), ""),
        (Some("1"), "3 4 5 "),
        (Some("other"), "3 4 5 "),
        (None, ""),
    ] {
        let mut listener = listen(&hub, last).unwrap();
        let text = heard(&mut listener).0;
        assert_eq!(text.replace(":\n\n", ""), missed, "{last:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn one_who_leaves_is_forgotten_without_an_event() {
    let hub = hub(1, 0);
    let listeners: Vec<_> = (0..10).map(|_| listen(&hub, None)).collect();
    assert_eq!(hub.counts().listeners, 10);
    drop(listeners);
    assert_eq!(hub.counts(), hub::Counts::default());
}

#[tokio::test(start_paused = true)]
async fn after_the_end_there_is_no_stream() {
    let hub = hub(8, 8);
    let mut listener = listen(&hub, None).unwrap();
    publish(&hub, 1..2);
    hub.end();
    assert_eq!(heard(&mut listener), (":\n\n1 ".into(), true));
    assert!(listen(&hub, Some("1")).is_none());
}

#[tokio::test(start_paused = true)]
async fn silence_is_broken_by_a_comment() {
    let hub = hub(8, 0);
    let mut listener = listen(&hub, None).unwrap();
    assert_eq!(heard(&mut listener).0, ":\n\n");
    tokio::time::advance(BEAT - Duration::from_secs(1)).await;
    publish(&hub, 1..2);
    assert_eq!(heard(&mut listener).0, "1 ");
    tokio::time::advance(BEAT - Duration::from_secs(1)).await;
    assert_eq!(heard(&mut listener).0, "", "not so soon after an event");
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(heard(&mut listener).0, ":\n\n");
}
