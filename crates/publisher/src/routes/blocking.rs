//! Work that takes milliseconds, outside the threads that serve connections.

use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinError;

/// Runs `work` on a blocking thread. `permit` limits how much of it runs at once. It is held until the work has ended: a
/// caller that disconnects does not end the work.
pub(super) async fn run_blocking<T: Send + 'static>(
    permit: OwnedSemaphorePermit,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, JoinError> {
    let running = tokio::task::spawn_blocking(move || {
        let result = work();
        drop(permit);
        result
    });
    running.await
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::mpsc::channel;
    use std::time::Duration;

    use tokio::sync::Semaphore;
    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn permit_is_held_until_abandoned_work_has_ended() {
        let semaphore = Arc::new(Semaphore::new(1));
        let (finish, finished) = channel::<()>();
        let permit = Arc::clone(&semaphore).acquire_owned().await.unwrap();
        let work = run_blocking(permit, move || finished.recv());
        assert!(timeout(Duration::from_millis(50), work).await.is_err());
        assert_eq!(semaphore.available_permits(), 0);
        finish.send(()).unwrap();
        drop(semaphore.acquire().await.unwrap());
    }
}
