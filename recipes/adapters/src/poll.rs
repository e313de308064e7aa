use std::time::Duration;

const INTERVAL: Duration = Duration::from_millis(10);

/// Waits until a condition holds that nothing tells of.
pub async fn until(holds: impl Fn() -> bool) {
    while !holds() {
        tokio::time::sleep(INTERVAL).await;
    }
}
