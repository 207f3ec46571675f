//! Who may write: bearer tokens, kept as SHA-256 in a file that can change while the process runs. It keeps no
//! token, and never says which part of a wrong one was right.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use axum::http::{HeaderMap, header};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use thiserror::Error;

use crate::budget::Budget;
use crate::settings::{AuthSettings, BudgetSettings};

/// The token file can't be used.
#[derive(Debug, Error)]
pub enum CallersError {
    /// It can't be read.
    #[error("read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The operating system's answer.
        #[source]
        source: std::io::Error,
    },
    /// A line is not a name and a SHA-256.
    #[error("{} line {line} is not a name and the SHA-256 of a token in hex", path.display())]
    Line {
        /// The file.
        path: PathBuf,
        /// Counted from 1.
        line: usize,
    },
    /// It holds no token, so that nobody could write.
    #[error("{} holds no token", .0.display())]
    Empty(PathBuf),
}

/// Why somebody may not write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stranger {
    /// Without a token.
    NoToken,
    /// With a token that is none of ours.
    WrongToken,
}

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
    path: Option<PathBuf>,
    budgets: BudgetSettings,
    largest_body: usize,
    known: RwLock<Known>,
}

#[derive(Default)]
struct Known {
    text: String,
    tokens: Vec<Token>,
    /// Kept over changes of the file, so that a new token is no new budget.
    callers: HashMap<Arc<str>, Caller>,
}

struct Token {
    name: Arc<str>,
    sha256: [u8; 32],
}

const ANONYMOUS: &str = "anonymous";

impl Callers {
    /// Reads the token file, if one is configured; without one, everybody may write. A body may have `largest_body`
    /// bytes.
    ///
    /// # Errors
    /// Each [`CallersError`].
    pub fn load(
        auth: &AuthSettings,
        budgets: &BudgetSettings,
        largest_body: usize,
    ) -> Result<Self, CallersError> {
        let callers = Self {
            path: auth.tokens_path.clone(),
            budgets: budgets.clone(),
            largest_body,
            known: RwLock::default(),
        };
        callers.reload()?;
        Ok(callers)
    }

    /// Reads the file again; says whether it has changed. On an error, who could write before still can.
    ///
    /// # Errors
    /// Each [`CallersError`].
    pub fn reload(&self) -> Result<bool, CallersError> {
        let (text, tokens) = match &self.path {
            None => (ANONYMOUS.to_owned(), vec![]),
            Some(path) => {
                let text = std::fs::read_to_string(path).map_err(|source| CallersError::Read {
                    path: path.clone(),
                    source,
                })?;
                let tokens = parse(path, &text)?;
                (text, tokens)
            }
        };
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.text == text {
            return Ok(false);
        }
        let anonymous = self.path.is_none().then(|| Arc::from(ANONYMOUS));
        let names: Vec<_> = tokens
            .iter()
            .map(|token| Arc::clone(&token.name))
            .chain(anonymous)
            .collect();
        known.callers.retain(|name, _| names.contains(name));
        for name in names {
            let fresh = || Caller {
                name: Arc::clone(&name),
                budget: Arc::new(Budget::new(&self.budgets, self.largest_body)),
            };
            known.callers.entry(Arc::clone(&name)).or_insert_with(fresh);
        }
        (known.text, known.tokens) = (text, tokens);
        Ok(true)
    }

    /// Who sends a request with these headers. Every token is compared, and in constant time.
    ///
    /// # Errors
    /// [`Stranger`].
    pub fn recognise(&self, headers: &HeaderMap) -> Result<Caller, Stranger> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        if self.path.is_none() {
            return Ok(known.callers[ANONYMOUS].clone());
        }
        let given = bearer(headers).ok_or(Stranger::NoToken)?;
        let sha256: [u8; 32] = Sha256::digest(given).into();
        let mut found = None;
        for token in &known.tokens {
            if bool::from(token.sha256.ct_eq(&sha256)) {
                found = Some(&token.name);
            }
        }
        let name = found.ok_or(Stranger::WrongToken)?;
        Ok(known.callers[name].clone())
    }
}

fn bearer(headers: &HeaderMap) -> Option<&[u8]> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next().filter(|_| values.next().is_none())?.as_bytes();
    let (scheme, token) = value.split_at_checked("bearer ".len())?;
    (scheme.eq_ignore_ascii_case(b"bearer ") && !token.is_empty()).then_some(token)
}

fn parse(path: &Path, text: &str) -> Result<Vec<Token>, CallersError> {
    let mut tokens = Vec::new();
    for (number, line) in (1..).zip(text.lines().map(str::trim)) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let token = token(line).ok_or_else(|| CallersError::Line {
            path: path.to_owned(),
            line: number,
        })?;
        tokens.push(token);
    }
    if tokens.is_empty() {
        return Err(CallersError::Empty(path.to_owned()));
    }
    Ok(tokens)
}

fn token(line: &str) -> Option<Token> {
    let mut words = line.split_whitespace();
    let (name, hex) = (words.next()?, words.next()?);
    let mut sha256 = [0; 32];
    if words.next().is_some() || hex.len() != 64 || !hex.is_ascii() {
        return None;
    }
    for (byte, digits) in sha256.iter_mut().zip(hex.as_bytes().chunks(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    }
    Some(Token {
        name: name.into(),
        sha256,
    })
}

#[cfg(test)]
mod tests {
    use std::io::{Seek as _, Write as _};

    use axum::http::HeaderValue;
    use tempfile::NamedTempFile;

    use super::*;

    fn line(name: &str, token: &str) -> String {
        let hex: String = Sha256::digest(token)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        format!("{name} {hex}\n")
    }

    fn write(file: &mut NamedTempFile, text: &str) {
        file.as_file().set_len(0).unwrap();
        file.rewind().unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    fn load(path: Option<&Path>) -> Result<Callers, CallersError> {
        let auth = AuthSettings {
            tokens_path: path.map(Path::to_owned),
        };
        Callers::load(&auth, &BudgetSettings::default(), 1_000)
    }

    fn who(callers: &Callers, authorization: &str) -> Result<String, Stranger> {
        let mut headers = HeaderMap::new();
        headers.insert("authorization", HeaderValue::from_str(authorization).unwrap());
        callers.recognise(&headers).map(|caller| caller.name.to_string())
    }

    #[test]
    fn a_caller_is_known_by_any_token_of_its_name() {
        let mut file = NamedTempFile::new().unwrap();
        let text = format!(
            "# who writes\n\n{}{}{}",
            line("ingester", "old"),
            line("ingester", "new"),
            line("other", "x")
        );
        write(&mut file, &text);
        let callers = load(Some(file.path())).unwrap();
        assert_eq!(who(&callers, "Bearer old").unwrap(), "ingester");
        assert_eq!(who(&callers, "bearer new").unwrap(), "ingester");
        assert_eq!(who(&callers, "Bearer x").unwrap(), "other");
        assert_eq!(who(&callers, "Bearer y"), Err(Stranger::WrongToken));
        assert_eq!(who(&callers, "Basic x"), Err(Stranger::NoToken));
        assert_eq!(who(&callers, "Bearer "), Err(Stranger::NoToken));
        assert_eq!(
            callers.recognise(&HeaderMap::new()).err(),
            Some(Stranger::NoToken)
        );
    }

    #[test]
    fn tokens_rotate_and_a_broken_file_changes_nothing() {
        let mut file = NamedTempFile::new().unwrap();
        write(&mut file, &line("a", "old"));
        let callers = load(Some(file.path())).unwrap();
        assert!(!callers.reload().unwrap());
        let budget = |callers: &Callers, token| {
            let mut headers = HeaderMap::new();
            headers.insert("authorization", HeaderValue::from_static(token));
            Arc::as_ptr(&callers.recognise(&headers).unwrap().budget)
        };
        let before = budget(&callers, "Bearer old");
        write(&mut file, &line("a", "new"));
        assert!(callers.reload().unwrap());
        assert_eq!(who(&callers, "Bearer old"), Err(Stranger::WrongToken));
        assert_eq!(
            budget(&callers, "Bearer new"),
            before,
            "a new token is no new budget"
        );
        for broken in ["", "a", "a xyz", &line("a b", "x")] {
            write(&mut file, broken);
            assert!(callers.reload().is_err(), "{broken}");
            assert!(who(&callers, "Bearer new").is_ok());
        }
    }

    #[test]
    fn without_a_file_everybody_is_anonymous_and_with_a_lost_one_nothing_starts() {
        let callers = load(None).unwrap();
        assert_eq!(
            callers.recognise(&HeaderMap::new()).ok().unwrap().name.as_ref(),
            "anonymous"
        );
        assert!(matches!(
            load(Some(Path::new("/nowhere"))),
            Err(CallersError::Read { .. })
        ));
    }
}
