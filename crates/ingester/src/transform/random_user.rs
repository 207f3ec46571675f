//! A reply of the random-user API → a verified page. A 200 proves nothing: the API corrects parameters without a word,
//! reports errors as 200 and sends empty results. Pure; no HTTP, no retry.

use std::fmt;

use serde::de::{SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use thiserror::Error;

use crate::transform::mapping::{ApiUser, format};
use crate::transform::page::Page;
use crate::transform::scalar::{Object, Scalar};

/// What the reply must say of itself.
#[derive(Clone, Copy, Debug)]
pub struct ExpectedPage<'e> {
    /// The pinned version.
    pub version: &'e str,
    /// The page that was asked for.
    pub page: u32,
    /// How many users were asked for.
    pub results: u32,
}

/// Why a reply is not the page that was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ReplyError {
    /// Not JSON, cut off, or not an object.
    #[error("not a reply in JSON, from line {line} column {column} on")]
    Malformed {
        /// Counted from 1.
        line: usize,
        /// In bytes, counted from 1.
        column: usize,
    },
    /// `{"error": …}`, which may come with any status.
    #[error("the API reports an error: {0}")]
    Reported(String),
    /// Neither `info` nor an older form of it.
    #[error("the reply does not say its version")]
    Unversioned,
    /// Another version of the API, whose uuids are other people.
    #[error("asked for version {asked}, answered by version {answered}")]
    Version {
        /// The pinned version.
        asked: String,
        /// The reply's.
        answered: String,
    },
    /// No users at all.
    #[error("the reply holds no users")]
    Empty,
    /// The number of users is another, or is said to be.
    #[error("asked for {asked} users, the reply says {said} and holds {held}")]
    Count {
        /// How many were asked for.
        asked: u32,
        /// What `info` says.
        said: String,
        /// How many there are.
        held: usize,
    },
    /// Another page, such as the first in place of one that is too high.
    #[error("asked for page {asked}, the reply says {said}")]
    Page {
        /// Which was asked for.
        asked: u32,
        /// What `info` says.
        said: String,
    },
}

#[derive(Deserialize)]
struct Reply<'a> {
    #[serde(default)]
    results: Option<Results>,
    #[serde(borrow, default)]
    info: Object<Info<'a>>,
    #[serde(borrow, default)]
    error: Scalar<'a>,
    /// Where versions before 1.0 say which they are.
    #[serde(borrow, default)]
    version: Scalar<'a>,
}

#[derive(Deserialize)]
struct Info<'a> {
    #[serde(borrow, default)]
    results: Scalar<'a>,
    #[serde(borrow, default)]
    page: Scalar<'a>,
    #[serde(borrow, default)]
    version: Scalar<'a>,
}

/// Reads `body` as the page that `expected` describes.
///
/// # Errors
/// Each [`ReplyError`]. A single user that makes no record is none: it is in the page, with its reason.
pub fn page(body: &[u8], expected: &ExpectedPage<'_>) -> Result<Page, ReplyError> {
    let reply: Object<Reply<'_>> = parse(body).map_err(|error| ReplyError::Malformed {
        line: error.line(),
        column: error.column(),
    })?;
    let Object::Given(reply) = reply else {
        return Err(ReplyError::Malformed { line: 1, column: 1 });
    };
    if reply.error != Scalar::Missing {
        return Err(ReplyError::Reported(shortened(&reply.error)));
    }
    let info = match reply.info {
        Object::Given(info) => info,
        _ => {
            return Err(version_of(&reply.version, expected)
                .err()
                .unwrap_or(ReplyError::Unversioned));
        }
    };
    version_of(&info.version, expected)?;
    let page = reply.results.unwrap_or_default().0;
    check(&info, &page, expected)?;
    Ok(page)
}

/// Text that is checked as a whole need not be checked string by string, which takes an eighth of the time. What is no
/// text as a whole may still be in the parts that are read.
fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> serde_json::Result<T> {
    match std::str::from_utf8(body) {
        Ok(text) => serde_json::from_str(text),
        Err(_) => serde_json::from_slice(body),
    }
}

fn version_of(version: &Scalar<'_>, expected: &ExpectedPage<'_>) -> Result<(), ReplyError> {
    match version {
        Scalar::Text(version) if version == expected.version => Ok(()),
        Scalar::Text(_) => Err(ReplyError::Version {
            asked: expected.version.to_owned(),
            answered: shortened(version),
        }),
        _ => Err(ReplyError::Unversioned),
    }
}

fn check(info: &Info<'_>, page: &Page, expected: &ExpectedPage<'_>) -> Result<(), ReplyError> {
    let held = page.users();
    if held == 0 {
        return Err(ReplyError::Empty);
    }
    let (asked, said) = (expected.results, number(&info.results));
    if said != Some(asked.into()) || usize::try_from(asked) != Ok(held) {
        return Err(ReplyError::Count {
            asked,
            said: in_words(said),
            held,
        });
    }
    let (asked, said) = (expected.page, number(&info.page));
    if said != Some(asked.into()) {
        return Err(ReplyError::Page {
            asked,
            said: in_words(said),
        });
    }
    Ok(())
}

/// A number that the API may write as a string, as it got it from the query.
fn number(value: &Scalar<'_>) -> Option<i128> {
    match value {
        Scalar::Integer(number) => Some(*number),
        Scalar::Text(text) => text.parse().ok(),
        Scalar::Other | Scalar::Missing => None,
    }
}

fn in_words(number: Option<i128>) -> String {
    number.map_or_else(|| "no number".to_owned(), |number| number.to_string())
}

/// A text of the API, fit for a log line.
fn shortened(value: &Scalar<'_>) -> String {
    let text = if let Scalar::Text(text) = value {
        text
    } else {
        "(no text)"
    };
    let printable = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    printable.take(120).collect()
}

/// The users, formatted while they are parsed, so that the reply is never held twice.
#[derive(Default)]
struct Results(Page);

impl<'de> Deserialize<'de> for Results {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(ResultsVisitor)
    }
}

struct ResultsVisitor;

impl<'de> Visitor<'de> for ResultsVisitor {
    type Value = Results;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of users")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut users: A) -> Result<Results, A::Error> {
        let mut page = Page::default();
        while let Some(user) = users.next_element::<Object<ApiUser<'de>>>()? {
            page.push(format(user));
        }
        Ok(Results(page))
    }
}

#[cfg(test)]
#[path = "random_user/tests.rs"]
mod tests;
