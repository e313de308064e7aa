use std::collections::VecDeque;

use futures_util::stream;
use http_body_util::{Full, StreamBody};
use hyper::body::Frame;
use tokio::time::Instant;

use super::*;

type Asked = Result<Answer<Full<Bytes>>, BoxError>;

fn source() -> Source {
    let limits = Limits {
        longest: 1000,
        idle: Duration::from_secs(60),
    };
    Source::new("http://feed/".into(), limits)
}

fn events(text: &'static str) -> Asked {
    Ok(Answer::Stream(Full::from(text)))
}

fn status(status: StatusCode) -> Asked {
    Ok(Answer::Status(status))
}

fn failed() -> Asked {
    Err("refused".into())
}

/// The requests and events of a source that got some answers and then a status 204.
#[derive(Default)]
struct Seen {
    /// The times of the requests, and the event id that each one sent.
    asked: Vec<(Duration, Option<String>)>,
    data: Vec<String>,
    opened: u64,
}

impl Seen {
    fn pauses(&self) -> Vec<Duration> {
        let times = self.asked.iter().map(|(time, _)| *time);
        let next = times.clone().skip(1);
        next.zip(times).map(|(next, this)| next - this).collect()
    }
}

async fn run(answers: Vec<Asked>) -> Seen {
    let mut script = VecDeque::from(answers);
    let start = Instant::now();
    let mut seen = Seen::default();
    let source = source();
    let connect = |last| {
        seen.asked.push((start.elapsed(), last));
        let answer = script.pop_front();
        let answer = answer.unwrap_or_else(|| status(StatusCode::NO_CONTENT));
        async move { answer }
    };
    source
        .run(connect, |event| seen.data.extend(event.data))
        .await;
    assert_eq!(*source.state().borrow(), State::Ended);
    seen.opened = source.opened();
    seen
}

/// Returns whether `pause` is between `least` and twice `least`.
fn is_about(pause: Duration, least: Duration) -> bool {
    pause >= least && pause <= least * 2 + Duration::from_millis(1)
}

#[tokio::test(start_paused = true)]
async fn it_reconnects_and_asks_for_the_events_after_the_last_one() {
    let seen = run(vec![
        events("id: 7\ndata: one\n\ndata: two\n\n"),
        events("data: three\n\n"),
        events("id: 9\n\n"),
        events("id\ndata: four\n\n"),
    ])
    .await;
    assert_eq!(seen.data, ["one", "two", "three", "four"]);
    let ids: Vec<_> = seen.asked.iter().map(|(_, id)| id.as_deref()).collect();
    assert_eq!(ids, [None, Some("7"), Some("7"), Some("9"), None]);
    assert_eq!(seen.opened, 4);
}

#[tokio::test(start_paused = true)]
async fn the_pauses_grow_with_every_failure_and_are_short_again_after_a_success() {
    let busy = status(StatusCode::SERVICE_UNAVAILABLE);
    let seen = run(vec![
        failed(),
        busy,
        failed(),
        events(""),
        events("data: x\n\n"),
    ])
    .await;
    let pauses = seen.pauses();
    for (pause, least) in pauses.iter().zip([500, 1000, 2000, 4000, 500]) {
        assert!(is_about(*pause, Duration::from_millis(least)), "{pauses:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_pauses_are_bounded_and_the_source_never_gives_up() {
    let seen = run((0..40).map(|_| failed()).collect()).await;
    let pauses = seen.pauses();
    assert_eq!(pauses.len(), 40);
    let last = pauses[39];
    assert!(is_about(last, LONGEST_PAUSE), "{last:?}");
}

#[tokio::test(start_paused = true)]
async fn pauses_have_jitter() {
    let mut firsts = std::collections::BTreeSet::new();
    for _ in 0..10 {
        firsts.insert(run(vec![failed()]).await.pauses()[0]);
    }
    assert!(firsts.len() > 5, "{firsts:?}");
}

#[tokio::test(start_paused = true)]
async fn the_servers_retry_sets_the_first_pause_of_later_connections_too() {
    let seen = run(vec![
        events("retry: 10000\n\n"),
        events("data: x\n\n"),
        events("retry: 0\n\n"),
    ])
    .await;
    let pauses = seen.pauses();
    assert!(is_about(pauses[0], Duration::from_secs(10)), "{pauses:?}");
    assert!(is_about(pauses[1], Duration::from_secs(10)), "{pauses:?}");
    assert!(is_about(pauses[2], RETRY.0), "never none: {pauses:?}");
    assert_eq!(seen.data, ["x"]);
}

#[tokio::test(start_paused = true)]
async fn the_state_of_a_source_can_be_watched() {
    let source = source();
    let mut states = source.state();
    let (leave, left) = tokio::sync::oneshot::channel::<()>();
    let quiet = stream::once(async move {
        let _ = left.await;
        Err::<Frame<Bytes>, BoxError>("reset".into())
    });
    let mut body = Some(StreamBody::new(Box::pin(quiet)));
    let connect = |_| {
        let answer = body.take().map(Answer::Stream);
        async move { answer.ok_or_else(|| "refused".into()) }
    };
    assert_eq!(*states.borrow(), State::Connecting);
    let watching = async {
        let open = states.wait_for(|state| *state == State::Open).await;
        drop(open.unwrap());
        leave.send(()).unwrap();
        let backing_off = |state: &State| matches!(state, State::BackingOff(_));
        drop(states.wait_for(backing_off).await.unwrap());
    };
    tokio::select! {
        () = source.run(connect, |_| {}) => panic!("it gave up"),
        () = watching => {}
    }
}
