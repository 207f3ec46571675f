//! Who may write, each with what that caller may do per second. Who somebody is, `service` knows.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::http::HeaderMap;
use service::AuthSettings;
use service::access::{self, AuthError, CallersError};

use crate::budget::Budget;
use crate::settings::RateLimitSettings;

/// Somebody who may write.
#[derive(Clone)]
pub struct Caller {
    /// The name in the token file; `anonymous` where no tokens are needed.
    pub name: Arc<str>,
    /// What the caller may do per second, with all tokens of that name.
    pub budget: Arc<Budget>,
}

/// Everybody who may write.
pub struct Callers {
    known: access::Callers,
    settings: RateLimitSettings,
    largest_body: usize,
    /// Kept over changes of the token file, so that a new token is no new budget.
    budgets: Mutex<HashMap<Arc<str>, Arc<Budget>>>,
}

impl Callers {
    /// Reads the token file, if one is configured; without one, everybody may write. A body may have `largest_body`
    /// bytes.
    ///
    /// # Errors
    /// Each [`CallersError`].
    pub fn load(
        auth: &AuthSettings,
        budgets: &RateLimitSettings,
        largest_body: usize,
    ) -> Result<Self, CallersError> {
        Ok(Self {
            known: access::Callers::load(auth)?,
            settings: budgets.clone(),
            largest_body,
            budgets: Mutex::default(),
        })
    }

    /// Reads the file again; says whether it has changed. On an error, who could write before still can.
    ///
    /// # Errors
    /// Each [`CallersError`].
    pub fn reload(&self) -> Result<bool, CallersError> {
        let changed = self.known.reload()?;
        if changed {
            let names = self.known.names();
            self.budgets().retain(|name, _| names.contains(name));
        }
        Ok(changed)
    }

    /// Who sends a request with these headers.
    ///
    /// # Errors
    /// [`AuthError`].
    pub fn authenticate(&self, headers: &HeaderMap) -> Result<Caller, AuthError> {
        let name = self.known.authenticate(headers)?;
        let fresh = || Arc::new(Budget::new(&self.settings, self.largest_body));
        let budget = Arc::clone(self.budgets().entry(Arc::clone(&name)).or_insert_with(fresh));
        Ok(Caller { name, budget })
    }

    fn budgets(&self) -> MutexGuard<'_, HashMap<Arc<str>, Arc<Budget>>> {
        self.budgets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use axum::http::HeaderValue;
    use sha2::{Digest as _, Sha256};
    use tempfile::NamedTempFile;

    use super::*;

    fn line(name: &str, token: &str) -> String {
        let hex: String = Sha256::digest(token)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        format!("{name} {hex}\n")
    }

    fn budget(callers: &Callers, token: &'static str) -> *const Budget {
        let mut headers = HeaderMap::new();
        headers.insert("authorization", HeaderValue::from_static(token));
        Arc::as_ptr(&callers.authenticate(&headers).unwrap().budget)
    }

    #[test]
    fn a_budget_is_its_callers_own_and_a_new_token_is_no_new_one() {
        let mut file = NamedTempFile::new().unwrap();
        file.write_all((line("a", "old") + &line("b", "x")).as_bytes())
            .unwrap();
        let auth = AuthSettings {
            tokens_path: Some(file.path().to_owned()),
        };
        let callers = Callers::load(&auth, &RateLimitSettings::default(), 1_000).unwrap();
        let (a, b) = (budget(&callers, "Bearer old"), budget(&callers, "Bearer x"));
        assert_ne!(a, b);
        std::fs::write(file.path(), line("a", "new")).unwrap();
        assert!(callers.reload().unwrap());
        assert_eq!(budget(&callers, "Bearer new"), a);
        assert_eq!(callers.budgets().len(), 1, "who is gone leaves nothing behind");
    }
}
