use std::sync::Mutex;
use std::time::Instant;

use lifecycle_runtime::Reason;

use super::*;

/// A session that shows whether it was ended.
struct TestSession {
    guard: Mutex<Option<SessionGuard>>,
    in_use: Arc<AtomicBool>,
}

impl Session for TestSession {
    fn end(&self) {
        self.guard.lock().unwrap().take();
    }

    fn is_in_use(&self) -> bool {
        self.in_use.load(Ordering::SeqCst)
    }
}

fn test_session(store: &Store<TestSession>) -> (TestSession, Arc<AtomicBool>) {
    let in_use = Arc::<AtomicBool>::default();
    let session = TestSession {
        guard: Mutex::new(Some(store.count_session())),
        in_use: in_use.clone(),
    };
    (session, in_use)
}

fn sessions(
    idle: Duration,
    most: u64,
) -> (Sessions<TestSession>, Store<TestSession>, SessionCount) {
    let total = SessionCount::default();
    let (owner, store) = Sessions::new(idle, most, &total);
    (owner, store, total)
}

fn in_use_is_stored(store: &Store<TestSession>) -> bool {
    store.cache.iter().any(|(_, session)| session.is_in_use())
}

const LONG: Duration = Duration::from_secs(3600);

/// Waits until `count` has `active` sessions. Uses the real clock, since the cache reads a clock
/// that tests cannot pause.
async fn until(active: u64, count: &SessionCount) {
    let end = Instant::now() + Duration::from_secs(30);
    while count.used().active != active {
        assert!(Instant::now() < end, "{:?}, not {active}", count.used());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn an_unused_session_expires_and_a_session_in_use_does_not() {
    let (_owner, store, total) = sessions(Duration::from_secs(1), 10);
    let (session, in_use) = test_session(&store);
    in_use.store(true, Ordering::SeqCst);
    let name = store.create(session).await.unwrap();
    let unused = store.create(test_session(&store).0).await.unwrap();
    assert_eq!(total.used(), Used { active: 2, peak: 2 });
    until(1, &total).await;
    assert!(store.find(&unused).await.is_none());
    // The second unused session gets its full idle time, and the session in use stays.
    store.create(test_session(&store).0).await.unwrap();
    until(1, &total).await;
    assert!(in_use_is_stored(&store));
    in_use.store(false, Ordering::SeqCst);
    until(0, &total).await;
    assert!(store.find(&name).await.is_none());
}

#[tokio::test]
async fn at_the_limit_the_least_recently_used_session_ends() {
    let (_owner, store, total) = sessions(LONG, 2);
    let first = store.create(test_session(&store).0).await.unwrap();
    let second = store.create(test_session(&store).0).await.unwrap();
    store.expire().await;
    store.find(&first).await.unwrap();
    store.expire().await;
    let third = store.create(test_session(&store).0).await.unwrap();
    store.expire().await;
    until(2, &total).await;
    assert!(store.find(&first).await.is_some());
    assert!(store.find(&second).await.is_none());
    assert!(store.find(&third).await.is_some());
}

#[tokio::test]
async fn the_shutdown_ends_all_sessions_and_refuses_new_ones() {
    let (mut owner, store, total) = sessions(LONG, 10);
    for _ in 0..5 {
        store.create(test_session(&store).0).await.unwrap();
    }
    let context = || Context::new(Reason::Requested, Duration::from_secs(5));
    owner.cleanup(&context()).await.unwrap();
    assert_eq!(total.used(), Used { active: 0, peak: 5 });
    assert!(store.create(test_session(&store).0).await.is_none());
    assert_eq!(total.used().active, 0);
    owner.cleanup(&context()).await.unwrap();
}

#[tokio::test]
async fn a_session_that_replaces_another_ends_it() {
    let (_owner, store, total) = sessions(LONG, 10);
    assert!(store.insert("a".into(), test_session(&store).0).await);
    assert!(store.insert("a".into(), test_session(&store).0).await);
    assert_eq!(total.used(), Used { active: 1, peak: 2 });
    assert!(store.remove("a").await && !store.remove("a").await);
    assert_eq!(total.used().active, 0);
}
