//! Tests of the pool with `sh` as the program.

use std::num::NonZeroUsize;

use lifecycle_proxy_common::Seconds;
use lifecycle_runtime::Reason;

use super::message::Call;
use super::*;

/// A script that answers every request with the script's own process id.
const TELL: &str = r#"while read -r line; do
  id=${line#*\"id\":}; id=${id%%,*}
  printf '{"jsonrpc":"2.0","id":%s,"result":%s}\n' "$id" $$
done"#;

fn settings(script: &str) -> Settings {
    Settings::new(vec!["sh".into(), "-c".into(), script.into()])
}

const TIMES: Times = Times {
    answer: Duration::from_secs(60),
    heartbeat: Duration::from_secs(15),
};

fn pool_of(settings: &Settings) -> (StdioPool, StdioClient) {
    StdioPool::new(settings, TIMES, &SessionCount::default())
}

fn call() -> Call {
    Call::read(br#"{"jsonrpc":"2.0","id":"x","method":"m"}"#).unwrap()
}

async fn pid_of(client: &StdioClient) -> u64 {
    let answer = client.call(&call()).await.unwrap().unwrap();
    let answer: serde_json::Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(answer["id"], "x");
    answer["result"].as_u64().unwrap()
}

fn within(seconds: u64) -> Context {
    Context::new(Reason::Requested, Duration::from_secs(seconds))
}

/// Polls until `look` returns true, since the end of a real process takes an unknown time.
async fn eventually(mut look: impl FnMut() -> bool) {
    let patience = Instant::now() + Duration::from_secs(30);
    while !look() {
        assert!(Instant::now() < patience, "not within 30 s");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn exists(pid: u64) -> bool {
    std::path::Path::new(&format!("/proc/{pid}")).exists()
}

#[tokio::test]
async fn one_process_answers_many_calls_and_a_dropped_clone_changes_nothing() {
    let (mut pool, client) = pool_of(&settings(TELL));
    let first = pid_of(&client).await;
    for _ in 0..50 {
        let clone = client.clone();
        assert_eq!(pid_of(&clone).await, first);
        drop(clone);
    }
    assert_eq!(client.counts().started, 1);
    pool.cleanup(&within(10)).await.unwrap();
    assert_eq!(client.counts().running, 0);
    assert!(!exists(first), "reaped");
    assert!(matches!(client.call(&call()).await, Err(Failure::Closed)));
    pool.cleanup(&within(10)).await.unwrap();
}

#[tokio::test]
async fn there_are_as_many_processes_as_calls_at_a_time_and_no_more_than_allowed() {
    let mut settings = settings(TELL);
    settings.processes = NonZeroUsize::new(3).unwrap();
    let (mut pool, client) = pool_of(&settings);
    let calls: Vec<_> = (0..20)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move { pid_of(&client).await })
        })
        .collect();
    let mut pids = std::collections::BTreeSet::new();
    for call in calls {
        pids.insert(call.await.unwrap());
    }
    assert!(pids.len() <= 3, "{pids:?}");
    assert_eq!(client.counts().started, pids.len() as u64);
    pool.cleanup(&within(10)).await.unwrap();
}

#[tokio::test]
async fn a_process_that_ends_in_a_call_breaks_that_call_and_the_next_gets_another() {
    let once = r#"read -r line; printf '{"jsonrpc":"2.0","id":1,"result":%s}\n' $$; read -r line"#;
    let (mut pool, client) = pool_of(&settings(once));
    let first = pid_of(&client).await;
    let broken = client.call(&call()).await.unwrap_err();
    assert!(matches!(broken, Failure::Broken(_)), "{broken}");
    let second = pid_of(&client).await;
    assert_ne!(first, second);
    pool.cleanup(&within(10)).await.unwrap();
}

#[tokio::test]
async fn a_process_that_closed_its_output_while_it_waited_is_not_used_again() {
    let once = r#"read -r line; printf '{"jsonrpc":"2.0","id":1,"result":%s}\n' $$; exec >&-; exec 3<&0; read -r line"#;
    let (mut pool, client) = pool_of(&settings(once));
    let first = pid_of(&client).await;
    let object = client.pool.get().await.unwrap();
    drop(object);
    // The shell opens descriptor 3 after it has closed its output. The pool may have ended it by then.
    eventually(|| {
        client.pool.retain(|_, _| true);
        let descriptors = std::path::PathBuf::from(format!("/proc/{first}/fd"));
        descriptors.join("3").exists() || std::fs::read_dir(descriptors).is_err()
    })
    .await;
    // The runtime learns of the closed output in its next turn.
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_ne!(pid_of(&client).await, first);
    pool.cleanup(&within(10)).await.unwrap();
}

#[tokio::test]
async fn a_process_that_was_abandoned_in_a_call_is_not_used_again() {
    let mute = "while read -r line; do :; done";
    let times = Times {
        answer: Duration::from_secs(1),
        ..TIMES
    };
    let (mut pool, client) = StdioPool::new(&settings(mute), times, &SessionCount::default());
    assert!(matches!(client.call(&call()).await, Err(Failure::Late)));
    assert!(matches!(client.call(&call()).await, Err(Failure::Late)));
    assert_eq!(client.counts().started, 2);
    pool.cleanup(&within(10)).await.unwrap();
    assert_eq!(client.counts().running, 0);
}

#[tokio::test]
async fn a_process_that_ended_while_unused_is_reaped_at_once() {
    let (mut pool, client) = pool_of(&settings(TELL));
    let pid = pid_of(&client).await;
    let raw = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(raw, rustix::process::Signal::KILL).unwrap();
    eventually(|| {
        client.counts()
            == Counts {
                started: 1,
                ..Counts::default()
            }
    })
    .await;
    assert!(!exists(pid));
    pool.cleanup(&within(10)).await.unwrap();
}

#[tokio::test]
async fn an_unused_process_is_ended_after_its_time() {
    let mut settings = settings(TELL);
    settings.idle = Seconds::of(1);
    let (mut pool, client) = pool_of(&settings);
    let pid = pid_of(&client).await;
    eventually(|| !exists(pid)).await;
    pool.cleanup(&within(10)).await.unwrap();
}

#[tokio::test]
async fn the_shutdown_closes_the_input_then_sends_sigterm_then_sigkill_to_the_group() {
    // The script and its child ignore SIGTERM and the end of their input.
    let stubborn = r#"trap '' TERM; sleep 1000 & child=$!
        read -r line; printf '{"jsonrpc":"2.0","id":1,"result":%s}\n' $child
        while :; do sleep 1000; done"#;
    let (mut pool, client) = pool_of(&settings(stubborn));
    let child = pid_of(&client).await;
    assert!(exists(child));
    let error = pool.cleanup(&within(1)).await.unwrap_err().to_string();
    assert!(error.contains("killed"), "{error}");
    assert_eq!(client.counts().running, 0);
    eventually(|| !runs(child)).await;
}

#[tokio::test]
async fn a_process_that_ends_at_sigterm_is_a_clean_end() {
    let script = r#"trap 'exit 0' TERM
        read -r line; printf '{"jsonrpc":"2.0","id":1,"result":%s}\n' $$
        while :; do sleep 0.01; done"#;
    let mut settings = settings(script);
    settings.stop = Seconds::of(60);
    let (mut pool, client) = pool_of(&settings);
    let pid = pid_of(&client).await;
    pool.cleanup(&within(3)).await.unwrap();
    assert!(!exists(pid));
}

#[tokio::test]
async fn an_owner_that_is_dropped_kills_what_it_started() {
    let (pool, client) = pool_of(&settings(TELL));
    let pid = pid_of(&client).await;
    drop(pool);
    eventually(|| !exists(pid)).await;
}

#[tokio::test]
async fn a_missing_program_is_an_error() {
    let missing = Settings::new(vec!["/nonexistent/program".into()]);
    let (mut pool, client) = pool_of(&missing);
    let failure = client.call(&call()).await.unwrap_err();
    assert!(matches!(failure, Failure::Unstarted(_)), "{failure}");
    assert_eq!(client.counts().running, 0);
    pool.cleanup(&within(10)).await.unwrap();
}

/// Returns whether the process runs, which a zombie does not. An orphan may stay a zombie until
/// another process reaps it.
fn runs(pid: u64) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}
