//! No descriptor, task or thread is left when a server has ended. This test is alone in its process, because it counts
//! those of the process.

mod support;

use std::time::{Duration, Instant};

use lifecycle_http::Limits;
use lifecycle_runtime::testing::LeakCheck;
use support::tcp_site;

#[tokio::test(flavor = "multi_thread")]
async fn after_its_end_no_descriptor_and_no_task_is_left() {
    let check = LeakCheck::new();
    {
        let site = tcp_site(Limits::default()).await;
        let mut clients = Vec::new();
        for path in ["/", "/events", "/stuck"] {
            let mut client = site.client().await;
            client.gets(path).await;
            site.reached().await;
            clients.push(client);
        }
        let error = site.stop_within(Duration::from_secs(1)).await.unwrap_err();
        assert!(error.to_string().contains("/stuck"), "{error}");
    }
    // The runtime lowers its count of tasks a moment after a task has ended, so this waits.
    let start = Instant::now();
    while !check.leaks().is_empty() && start.elapsed() < Duration::from_secs(10) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    check.assert_none();
}
