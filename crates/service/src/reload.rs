//! Looks again and again whether something that was read from files has changed. What is broken is told once; what
//! was good before stays in use.

use std::error::Error;
use std::time::Duration;

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::process::chain;

/// Calls `reload` every `interval` until `stop`, away from the threads that serve requests. It says whether `what`
/// has changed.
pub async fn watch<E: Error>(
    what: &'static str,
    interval: Duration,
    stop: CancellationToken,
    reload: impl Fn() -> Result<bool, E> + Clone + Send + 'static,
) {
    let looking = async {
        let mut fault = None;
        loop {
            sleep(interval).await;
            let reload = reload.clone();
            match tokio::task::spawn_blocking(move || outcome(what, reload())).await {
                Ok(found) => {
                    tell(what, found.as_deref(), fault.as_deref());
                    fault = found;
                }
                Err(error) => tracing::error!(what, %error, "files not looked at"),
            }
        }
    };
    tokio::select! {
        () = stop.cancelled() => (),
        () = looking => (),
    }
}

/// What is wrong, if anything.
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

fn tell(what: &str, now: Option<&str>, before: Option<&str>) {
    if let Some(error) = now.filter(|_| now != before) {
        tracing::error!(what, error, "not reloaded; what was read before stays in use");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn it_looks_until_it_is_stopped_also_after_an_error() {
        let (looks, stop) = (Arc::new(AtomicUsize::new(0)), CancellationToken::new());
        let counted = {
            let (looks, stop) = (Arc::clone(&looks), stop.clone());
            move || {
                if looks.fetch_add(1, Ordering::SeqCst) == 2 {
                    stop.cancel();
                }
                Err::<bool, _>(std::io::Error::other("gone"))
            }
        };
        let watching = watch("x", Duration::from_millis(1), stop, counted);
        tokio::time::timeout(Duration::from_secs(10), watching)
            .await
            .unwrap();
        assert!(looks.load(Ordering::SeqCst) >= 3);
    }
}
