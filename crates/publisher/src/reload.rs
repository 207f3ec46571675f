//! Looks again and again whether certificates and tokens have changed. What is broken is told once; what was good
//! before stays in use.

use std::sync::Arc;
use std::time::Duration;

use service::process::chain;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::callers::Callers;
use crate::tls::Tls;

/// What can change while the process runs.
#[derive(Clone)]
pub(crate) struct Reloading {
    pub(crate) callers: Arc<Callers>,
    pub(crate) tls: Option<Arc<Tls>>,
}

/// What is wrong with each, if anything.
#[derive(Default, PartialEq, Eq)]
struct Faults {
    tokens: Option<String>,
    tls: Option<String>,
}

impl Reloading {
    /// Looks every `interval` until `stop`.
    pub(crate) async fn run(self, interval: Duration, stop: CancellationToken) {
        let mut faults = Faults::default();
        let looking = async {
            loop {
                sleep(interval).await;
                let files = self.clone();
                match tokio::task::spawn_blocking(move || files.look()).await {
                    Ok(found) => {
                        found.tell(&faults);
                        faults = found;
                    }
                    Err(error) => tracing::error!(%error, "files not looked at"),
                }
            }
        };
        tokio::select! {
            () = stop.cancelled() => (),
            () = looking => (),
        }
    }

    fn look(&self) -> Faults {
        let tls = self.tls.as_ref().map_or(Ok(false), |tls| tls.reload());
        Faults {
            tokens: outcome("tokens", self.callers.reload()),
            tls: outcome("certificates", tls),
        }
    }
}

fn outcome<E: std::error::Error>(what: &str, reloaded: Result<bool, E>) -> Option<String> {
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

impl Faults {
    fn tell(&self, before: &Self) {
        for (now, before) in [(&self.tokens, &before.tokens), (&self.tls, &before.tls)] {
            if let Some(error) = now.as_ref().filter(|error| Some(*error) != before.as_ref()) {
                tracing::error!(error, "not reloaded; what was read before stays in use");
            }
        }
    }
}
