//! Reloads files periodically. An error is logged once; the content that was loaded before stays in use.

use std::error::Error;
use std::time::Duration;

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::process::exit::chain;

/// Calls `reload` every `interval` until `stop`, on a blocking thread. `reload` returns whether `what` has changed.
pub async fn watch<E: Error>(
    what: &'static str,
    interval: Duration,
    stop: CancellationToken,
    reload: impl Fn() -> Result<bool, E> + Clone + Send + 'static,
) {
    let reloading = async {
        let mut last_error = None;
        loop {
            sleep(interval).await;
            let reload = reload.clone();
            match tokio::task::spawn_blocking(move || outcome(what, reload())).await {
                Ok(error) => {
                    log_new_error(what, error.as_deref(), last_error.as_deref());
                    last_error = error;
                }
                Err(error) => tracing::error!(what, %error, "reload task failed"),
            }
        }
    };
    tokio::select! {
        () = stop.cancelled() => (),
        () = reloading => (),
    }
}

/// Logs a change and returns the error, if there is one.
fn outcome<E: Error>(what: &str, reloaded: Result<bool, E>) -> Option<String> {
    match reloaded {
        Ok(changed) => {
            if changed {
                tracing::info!(what, "reloaded");
            }
            None
        }
        Err(error) => Some(chain(&error)),
    }
}

/// Logs an error unless it is the same as the last one.
pub(crate) fn log_new_error(what: &str, error: Option<&str>, last_error: Option<&str>) {
    if let Some(error) = error.filter(|_| error != last_error) {
        tracing::error!(what, error, "reload failed; the previous content stays in use");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn reloads_continue_after_an_error_until_cancelled() {
        let (calls, stop) = (Arc::new(AtomicUsize::new(0)), CancellationToken::new());
        let counted = {
            let (calls, stop) = (Arc::clone(&calls), stop.clone());
            move || {
                if calls.fetch_add(1, Ordering::SeqCst) == 2 {
                    stop.cancel();
                }
                Err::<bool, _>(std::io::Error::other("gone"))
            }
        };
        let watching = watch("x", Duration::from_millis(1), stop, counted);
        tokio::time::timeout(Duration::from_secs(10), watching)
            .await
            .unwrap();
        assert!(calls.load(Ordering::SeqCst) >= 3);
    }
}
