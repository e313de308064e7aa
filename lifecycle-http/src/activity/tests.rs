use super::*;

fn h2() -> Activity {
    let activity = Activity::new(SharedSocket::default());
    activity.h2.store(true, Ordering::Relaxed);
    activity
}

fn begin(activity: &Activity) -> usize {
    activity.begins(&Method::GET, &Uri::from_static("/"))
}

#[tokio::test]
async fn too_many_are_as_many_as_an_h2_client_gives_up_beyond_those_it_waits_for() {
    let activity = h2();
    let give_up = || {
        begin(&activity);
        activity.abandons();
    };
    for _ in 0..1_000 {
        give_up();
        begin(&activity);
        activity.answers();
    }
    for _ in 1..MOST_ABANDONED {
        give_up();
    }
    assert_eq!(activity.seen().given_up, 0);
    give_up();
    assert_eq!(activity.seen().given_up, 1);
    for _ in 0..MOST_ABANDONED {
        give_up();
    }
    assert_eq!(activity.seen().given_up, 2);
}

#[tokio::test(start_paused = true)]
async fn it_says_what_goes_on_and_for_how_long_but_not_the_query() {
    let activity = Activity::new(SharedSocket::default());
    let says = |seconds: u64| {
        let activity = &activity;
        async move {
            tokio::time::advance(Duration::from_secs(seconds)).await;
            activity.doing("the service")
        }
    };
    assert_eq!(says(1).await, "idle for 1.0 s");
    activity.bytes_arrived();
    assert_eq!(says(2).await, "reading a head for 2.0 s");
    activity.bytes_arrived();
    let number = activity.begins(&Method::POST, &Uri::from_static("/slow?token=secret"));
    activity.unread(true);
    assert_eq!(says(3).await, "POST /slow, reading the body for 3.0 s");
    activity.unread(false);
    assert_eq!(
        says(1).await,
        "POST /slow, waiting for the service for 4.0 s"
    );
    activity.answers();
    assert_eq!(says(1).await, "POST /slow, answering for 5.0 s");
    activity.wrote(1);
    activity.ends(number, false);
    assert_eq!(says(2).await, "idle for 2.0 s");
}

#[tokio::test(start_paused = true)]
async fn over_h2_it_says_whether_the_service_is_waited_for_and_shortens_long_paths() {
    let activity = h2();
    let long = format!("/{}", "%C3%A9".repeat(500));
    activity.begins(&Method::GET, &long.parse().unwrap());
    let text = activity.doing("the service");
    assert!(text.starts_with("GET /%C3%A9"), "{text}");
    assert!(
        text.ends_with("…, waiting for the service for 0.0 s"),
        "{text}"
    );
    assert!(text.len() < 180, "{text}");
    activity.answers();
    assert!(
        activity
            .doing("the service")
            .ends_with("…, silent for 0.0 s")
    );
}

#[tokio::test]
async fn the_service_is_waited_for_from_the_last_byte_of_a_request_to_the_first_of_its_answer() {
    let activity = Activity::new(SharedSocket::default());
    begin(&activity);
    activity.unread(true);
    assert!(!activity.seen().awaits_service, "its body is not read yet");
    activity.unread(false);
    assert!(activity.seen().awaits_service);
    activity.answers();
    assert!(!activity.seen().awaits_service);
}
