use std::sync::Mutex;
use std::time::Instant;

use lifecycle_runtime::Reason;

use super::*;

/// What a test sees of a session.
struct Kept {
    entered: Mutex<Option<Entered>>,
    held: Arc<AtomicBool>,
}

impl Session for Kept {
    fn end(&self) {
        self.entered.lock().unwrap().take();
    }

    fn is_held(&self) -> bool {
        self.held.load(Ordering::SeqCst)
    }
}

fn kept(shelf: &Shelf<Kept>) -> (Kept, Arc<AtomicBool>) {
    let held = Arc::<AtomicBool>::default();
    let session = Kept {
        entered: Mutex::new(Some(shelf.enter())),
        held: held.clone(),
    };
    (session, held)
}

fn sessions(idle: Duration, most: u64) -> (Sessions<Kept>, Shelf<Kept>, SessionCount) {
    let total = SessionCount::default();
    let (owner, shelf) = Sessions::new(idle, most, &total);
    (owner, shelf, total)
}

fn held_is_there(shelf: &Shelf<Kept>) -> bool {
    shelf.cache.iter().any(|(_, session)| session.is_held())
}

const LONG: Duration = Duration::from_secs(3600);

/// The cache has a clock of its own, which a test cannot turn.
async fn until(active: u64, count: &SessionCount) {
    let end = Instant::now() + Duration::from_secs(30);
    while count.used().active != active {
        assert!(Instant::now() < end, "{:?}, not {active}", count.used());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn one_that_is_not_used_ends_by_itself_and_one_that_is_held_does_not() {
    let (_owner, shelf, total) = sessions(Duration::from_secs(1), 10);
    let (session, held) = kept(&shelf);
    held.store(true, Ordering::SeqCst);
    let name = shelf.begin(session).await.unwrap();
    let unused = shelf.begin(kept(&shelf).0).await.unwrap();
    assert_eq!(total.used(), Used { active: 2, peak: 2 });
    until(1, &total).await;
    assert!(shelf.find(&unused).await.is_none());
    // A second one that is not used has all its time, and the first goes on.
    shelf.begin(kept(&shelf).0).await.unwrap();
    until(1, &total).await;
    assert!(held_is_there(&shelf));
    held.store(false, Ordering::SeqCst);
    until(0, &total).await;
    assert!(shelf.find(&name).await.is_none());
}

#[tokio::test]
async fn above_the_most_the_one_that_was_not_used_for_longest_goes() {
    let (_owner, shelf, total) = sessions(LONG, 2);
    let first = shelf.begin(kept(&shelf).0).await.unwrap();
    let second = shelf.begin(kept(&shelf).0).await.unwrap();
    shelf.tick().await;
    shelf.find(&first).await.unwrap();
    shelf.tick().await;
    let third = shelf.begin(kept(&shelf).0).await.unwrap();
    shelf.tick().await;
    until(2, &total).await;
    assert!(shelf.find(&first).await.is_some());
    assert!(shelf.find(&second).await.is_none());
    assert!(shelf.find(&third).await.is_some());
}

#[tokio::test]
async fn at_the_end_all_are_ended_and_none_begins() {
    let (mut owner, shelf, total) = sessions(LONG, 10);
    for _ in 0..5 {
        shelf.begin(kept(&shelf).0).await.unwrap();
    }
    let context = || Context::new(Reason::Requested, Duration::from_secs(5));
    owner.cleanup(&context()).await.unwrap();
    assert_eq!(total.used(), Used { active: 0, peak: 5 });
    assert!(shelf.begin(kept(&shelf).0).await.is_none());
    assert_eq!(total.used().active, 0);
    owner.cleanup(&context()).await.unwrap();
}

#[tokio::test]
async fn what_is_put_in_the_place_of_another_ends_that() {
    let (_owner, shelf, total) = sessions(LONG, 10);
    assert!(shelf.keep("a".into(), kept(&shelf).0).await);
    assert!(shelf.keep("a".into(), kept(&shelf).0).await);
    assert_eq!(total.used(), Used { active: 1, peak: 2 });
    assert!(shelf.end("a").await && !shelf.end("a").await);
    assert_eq!(total.used().active, 0);
}
