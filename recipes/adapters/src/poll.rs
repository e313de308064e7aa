use std::time::Duration;

const INTERVAL: Duration = Duration::from_millis(10);

/// Waits until a condition holds. It checks the condition every 10 ms, since the crates offer no way to be notified.
pub async fn until(holds: impl Fn() -> bool) {
    while !holds() {
        tokio::time::sleep(INTERVAL).await;
    }
}
