//! Parses a reply of the random-user API into a validated page. Status 200 proves nothing: the API corrects parameters
//! silently, reports errors as 200 and returns empty results. Pure; no HTTP, no retries.
//!
//! Users are mapped while the reply is parsed. If that fails, the reply is parsed once more with each user by itself, so that
//! a user that can't be read does not affect the others.

use std::fmt;

use serde::de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::transform::api_user::ApiUser;
use crate::transform::mapping::{Mapping, MappingError};
use crate::transform::page::Page;
use crate::transform::scalar::{Object, Scalar};
use crate::transform::suspicion::Suspicion;

/// A mark at the beginning of some UTF-8 files, which is no JSON.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// What a reply must declare.
#[derive(Clone, Copy, Debug)]
pub struct ExpectedPage<'e> {
    /// The configured version.
    pub version: &'e str,
    /// The requested seed.
    pub seed: &'e str,
    /// The requested page.
    pub page: u32,
    /// The requested number of users.
    pub results: u32,
}

/// Why a reply isn't the requested page.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplyError {
    /// Not JSON, truncated, or not an object.
    #[error("malformed JSON at line {line}, column {column}")]
    Malformed {
        /// Counted from 1.
        line: usize,
        /// In bytes, counted from 1.
        column: usize,
    },
    /// `{"error": …}`, with any status.
    #[error("the API reports an error: {0}")]
    Reported(String),
    /// The reply declares no version.
    #[error("the reply has no version")]
    Unversioned,
    /// Another version of the API; it assigns the same UUIDs to other people.
    #[error("requested version {requested}, received version {received}")]
    Version {
        /// The configured version.
        requested: String,
        /// The declared version.
        received: String,
    },
    /// The reply contains no users.
    #[error("the reply contains no users")]
    Empty,
    /// The declared or actual number of users differs from the request.
    #[error("requested {requested} users, the reply declares {declared} and contains {actual}")]
    Count {
        /// The requested number.
        requested: u32,
        /// The number declared in `info`.
        declared: String,
        /// The number of users in the reply.
        actual: usize,
    },
    /// Another page, such as the first in place of one that is too high.
    #[error("requested page {requested}, the reply declares page {declared}")]
    Page {
        /// The requested page.
        requested: u32,
        /// The page declared in `info`.
        declared: String,
    },
    /// The page of another seed, such as a cached reply to another request.
    #[error("requested seed {requested}, the reply declares {declared}")]
    Seed {
        /// The requested seed.
        requested: String,
        /// The seed declared in `info`.
        declared: String,
    },
}

/// The parts of a reply that are read.
#[derive(Default)]
struct ApiReply<'a> {
    results: Page,
    info: Object<Info<'a>>,
    error: Scalar<'a>,
    /// Version field of versions before 1.0.
    version: Scalar<'a>,
}

#[derive(Deserialize)]
struct Info<'a> {
    #[serde(borrow, default)]
    seed: Scalar<'a>,
    #[serde(borrow, default)]
    results: Scalar<'a>,
    #[serde(borrow, default)]
    page: Scalar<'a>,
    #[serde(borrow, default)]
    version: Scalar<'a>,
}

/// Parses `body` as the page that `expected` describes, and maps its users by `mapping`.
///
/// # Errors
/// Returns a [`ReplyError`]. A user that can't be mapped is no error: the page holds its [`MappingError`].
///
/// [`MappingError`]: crate::transform::mapping::MappingError
pub fn page(body: &[u8], expected: &ExpectedPage<'_>, mapping: &Mapping) -> Result<Page, ReplyError> {
    let body = body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(body);
    match std::str::from_utf8(body) {
        Ok(text) => page_of_text(&Text { text, replaced: &[] }, expected, mapping),
        Err(_) => {
            let (text, replaced) = lossy(body);
            let text = Text {
                text: &text,
                replaced: &replaced,
            };
            page_of_text(&text, expected, mapping)
        }
    }
}

/// A reply in UTF-8.
#[derive(Clone, Copy)]
struct Text<'a> {
    text: &'a str,
    /// Positions of characters that replace invalid UTF-8, in order.
    replaced: &'a [usize],
}

/// Replaces invalid UTF-8. Returns the positions of the replacements, too.
fn lossy(body: &[u8]) -> (String, Vec<usize>) {
    let (mut text, mut replaced) = (String::with_capacity(body.len()), Vec::new());
    for chunk in body.utf8_chunks() {
        text.push_str(chunk.valid());
        if !chunk.invalid().is_empty() {
            replaced.push(text.len());
            text.push(char::REPLACEMENT_CHARACTER);
        }
    }
    (text, replaced)
}

fn page_of_text(text: &Text<'_>, expected: &ExpectedPage<'_>, mapping: &Mapping) -> Result<Page, ReplyError> {
    let reply = parse(text, mapping).map_err(|error| ReplyError::Malformed {
        line: error.line(),
        column: error.column(),
    })?;
    if reply.error != Scalar::Missing {
        return Err(ReplyError::Reported(printable(&reply.error)));
    }
    let info = match reply.info {
        Object::Given(info) => info,
        _ => {
            return Err(check_version(&reply.version, expected)
                .err()
                .unwrap_or(ReplyError::Unversioned));
        }
    };
    check_version(&info.version, expected)?;
    check(&info, &reply.results, expected)?;
    Ok(reply.results)
}

/// Parses JSON, with each user by itself if a user can't be read otherwise.
fn parse<'a>(text: &Text<'a>, mapping: &Mapping) -> serde_json::Result<ApiReply<'a>> {
    let results = |isolated| ResultsSeed { mapping, isolated };
    if text.replaced.is_empty() {
        match read(text.text, results(None)) {
            Err(error) => read(text.text, results(Some(*text))).map_err(|_| error),
            reply => reply,
        }
    } else {
        read(text.text, results(Some(*text)))
    }
}

fn read<'a>(text: &'a str, results: ResultsSeed<'_, 'a>) -> serde_json::Result<ApiReply<'a>> {
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let reply = ReplySeed(results).deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(reply)
}

fn check_version(version: &Scalar<'_>, expected: &ExpectedPage<'_>) -> Result<(), ReplyError> {
    match version {
        Scalar::Text(version) if version == expected.version => Ok(()),
        Scalar::Text(_) => Err(ReplyError::Version {
            requested: expected.version.to_owned(),
            received: printable(version),
        }),
        _ => Err(ReplyError::Unversioned),
    }
}

fn check(info: &Info<'_>, page: &Page, expected: &ExpectedPage<'_>) -> Result<(), ReplyError> {
    let actual = page.users();
    if actual == 0 {
        return Err(ReplyError::Empty);
    }
    let (requested, declared) = (expected.results, number(&info.results));
    if declared != Some(requested.into()) || usize::try_from(requested) != Ok(actual) {
        return Err(ReplyError::Count {
            requested,
            declared: describe(declared),
            actual,
        });
    }
    let (requested, declared) = (expected.page, number(&info.page));
    if declared != Some(requested.into()) {
        return Err(ReplyError::Page {
            requested,
            declared: describe(declared),
        });
    }
    check_seed(&info.seed, expected.seed)
}

/// A seed of digits may be declared as a number.
fn check_seed(declared: &Scalar<'_>, requested: &str) -> Result<(), ReplyError> {
    let is_same = match declared {
        Scalar::Text(seed) => seed == requested,
        Scalar::Integer(seed) => seed.to_string() == requested,
        Scalar::Other | Scalar::Missing => false,
    };
    if is_same {
        return Ok(());
    }
    Err(ReplyError::Seed {
        requested: requested.to_owned(),
        declared: match declared {
            Scalar::Missing => "none".to_owned(),
            Scalar::Integer(seed) => seed.to_string(),
            seed => printable(seed),
        },
    })
}

/// Parses a number, which the API may return as a string, as it was in the query.
fn number(value: &Scalar<'_>) -> Option<i128> {
    match value {
        Scalar::Integer(number) => Some(*number),
        Scalar::Text(text) => text.parse().ok(),
        Scalar::Other | Scalar::Missing => None,
    }
}

fn describe(number: Option<i128>) -> String {
    number.map_or_else(|| "no number".to_owned(), |number| number.to_string())
}

/// Shortens a text of the API and replaces control characters, for logs.
fn printable(value: &Scalar<'_>) -> String {
    let text = if let Scalar::Text(text) = value {
        text
    } else {
        "(no text)"
    };
    let printable = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    printable.take(120).collect()
}

struct ReplySeed<'m, 'de>(ResultsSeed<'m, 'de>);

impl<'de> DeserializeSeed<'de> for ReplySeed<'_, 'de> {
    type Value = ApiReply<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<ApiReply<'de>, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for ReplySeed<'_, 'de> {
    type Value = ApiReply<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<ApiReply<'de>, M::Error> {
        let mut reply = ApiReply::default();
        while let Some(name) = map.next_key::<ReplyField>()? {
            match name {
                ReplyField::Results => reply.results = map.next_value_seed(self.0)?,
                ReplyField::Info => reply.info = map.next_value()?,
                ReplyField::Error => reply.error = map.next_value()?,
                ReplyField::Version => reply.version = map.next_value()?,
                ReplyField::Other => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(reply)
    }
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum ReplyField {
    Results,
    Info,
    Error,
    Version,
    #[serde(other)]
    Other,
}

/// Maps the users while they are parsed, so that the reply is never held twice.
#[derive(Clone, Copy)]
struct ResultsSeed<'m, 'de> {
    mapping: &'m Mapping,
    /// The whole reply, if each user is parsed by itself.
    isolated: Option<Text<'de>>,
}

impl ResultsSeed<'_, '_> {
    fn add(&self, user: &ApiUser<'_>, page: &mut Page) {
        let mapped = self.mapping.map(user);
        let suspicion = Suspicion::of(user).filter(|_| mapped.is_ok());
        page.push(mapped);
        if let Some(suspicion) = suspicion {
            page.mark_suspicious(suspicion);
        }
    }

    /// Adds a user of `reply`, or the error that it can't be read.
    fn add_isolated(&self, reply: &Text<'_>, user: &str, page: &mut Page) {
        let start = user.as_ptr().addr() - reply.text.as_ptr().addr();
        let first_replaced = reply.replaced.partition_point(|position| *position < start);
        let replaced = reply.replaced.get(first_replaced);
        if replaced.is_some_and(|position| *position < start + user.len()) {
            page.push(Err(MappingError::not_utf8()));
            return;
        }
        let mut deserializer = serde_json::Deserializer::from_str(user);
        match self.mapping.paths().deserialize(&mut deserializer) {
            Ok(user) => self.add(&user, page),
            Err(_) => page.push(Err(MappingError::malformed())),
        }
    }
}

impl<'de> DeserializeSeed<'de> for ResultsSeed<'_, 'de> {
    type Value = Page;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Page, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ResultsSeed<'_, 'de> {
    type Value = Page;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of users")
    }

    /// Of `null`.
    fn visit_unit<E: Error>(self) -> Result<Page, E> {
        Ok(Page::default())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut users: A) -> Result<Page, A::Error> {
        let mut page = Page::default();
        match self.isolated {
            None => {
                while let Some(user) = users.next_element_seed(self.mapping.paths())? {
                    self.add(&user, &mut page);
                }
            }
            Some(reply) => {
                while let Some(user) = users.next_element::<&RawValue>()? {
                    self.add_isolated(&reply, user.get(), &mut page);
                }
            }
        }
        Ok(page)
    }
}

#[cfg(test)]
mod tests;
