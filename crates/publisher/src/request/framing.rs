//! Splits a body into the bytes of its records, so that an invalid record does not fail the request.
//!
//! Does not parse the records.

use std::fmt;

use axum::http::HeaderValue;
use model::Contract;
use model::headers::{JSON, NDJSON};
use serde::Deserializer as _;
use serde::de::{self, SeqAccess, Visitor};
use serde_json::error::Category;
use serde_json::value::RawValue;
use thiserror::Error;

/// The format of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON value, or an array of them.
    Json,
    /// A JSON value on each line; blank lines are ignored.
    Ndjson,
}

/// Why a body can't be split into records.
#[derive(Debug, PartialEq, Eq, Error)]
pub enum FramingError {
    /// The body is not JSON.
    #[error("{cause} at line {line} column {column}")]
    NotJson {
        /// Counted from 1.
        line: usize,
        /// In bytes, counted from 1; 0 is before the first byte of a line.
        column: usize,
        /// The message of the JSON parser, one of its constant texts.
        cause: String,
    },
    /// The body has no records.
    #[error("the body has no records")]
    Empty,
    /// The body has too many records.
    #[error("the body has more than {limit} records")]
    TooMany {
        /// The limit.
        limit: usize,
    },
}

impl Format {
    /// Parses a `Content-Type`; returns none if it is not supported. Ignores parameters except a `charset` other than
    /// UTF-8.
    pub fn from_content_type(content_type: &HeaderValue) -> Option<Self> {
        let mut parts = content_type.to_str().ok()?.split(';').map(str::trim);
        let media_type = parts.next()?;
        if !parts.all(is_ignorable) {
            None
        } else if media_type.eq_ignore_ascii_case(JSON) {
            Some(Self::Json)
        } else if media_type.eq_ignore_ascii_case(NDJSON) {
            Some(Self::Ndjson)
        } else {
            None
        }
    }

    /// Returns the bytes of each record of `body`, of at most `limit` records.
    ///
    /// A single JSON value and the elements of an array are well-formed JSON; a line may have any content.
    ///
    /// # Errors
    /// Each [`FramingError`].
    pub fn split<'a>(
        self,
        contract: &Contract,
        body: &'a [u8],
        limit: usize,
    ) -> Result<Vec<&'a [u8]>, FramingError> {
        let records = match self {
            Self::Ndjson => lines(body, limit)?,
            Self::Json if is_array(body) => elements(contract, body, limit)?,
            Self::Json => vec![value(contract, body)?],
        };
        if records.is_empty() {
            Err(FramingError::Empty)
        } else {
            Ok(records)
        }
    }
}

fn is_ignorable(parameter: &str) -> bool {
    match parameter.split_once('=') {
        Some((name, value)) if name.trim().eq_ignore_ascii_case("charset") => {
            value.trim().trim_matches('"').eq_ignore_ascii_case("utf-8")
        }
        _ => true,
    }
}

fn lines(body: &[u8], limit: usize) -> Result<Vec<&[u8]>, FramingError> {
    let mut records = Vec::new();
    for line in body.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii) {
        if !line.is_empty() {
            if records.len() == limit {
                return Err(FramingError::TooMany { limit });
            }
            records.push(line);
        }
    }
    Ok(records)
}

fn is_array(body: &[u8]) -> bool {
    body.trim_ascii_start().first() == Some(&b'[')
}

fn value<'a>(contract: &Contract, body: &'a [u8]) -> Result<&'a [u8], FramingError> {
    let text = std::str::from_utf8(body).ok();
    if text.and_then(|text| contract.canonical_length(text)) == Some(body.len()) {
        return Ok(body);
    }
    let value: &RawValue = serde_json::from_slice(body).map_err(|error| not_json(&error))?;
    Ok(value.get().as_bytes())
}

fn elements<'a>(contract: &Contract, body: &'a [u8], limit: usize) -> Result<Vec<&'a [u8]>, FramingError> {
    if let Some(elements) = canonical_elements(contract, body, limit) {
        return Ok(elements);
    }
    let mut array = serde_json::Deserializer::from_slice(body);
    let elements = array
        .deserialize_seq(Elements { limit })
        .and_then(|elements| array.end().map(|()| elements));
    elements.map_err(|error| match error.classify() {
        Category::Data => FramingError::TooMany { limit }, // Only the visitor returns a data error.
        _ => not_json(&error),
    })
}

/// The fast path for an array of records in the canonical encoding: the scan for the end of a record also proves that
/// it is JSON. Returns none for any other array.
fn canonical_elements<'a>(contract: &Contract, body: &'a [u8], limit: usize) -> Option<Vec<&'a [u8]>> {
    let mut rest = std::str::from_utf8(body).ok()?.strip_prefix('[')?;
    let mut elements = Vec::new();
    while elements.len() < limit {
        let (element, behind) = rest.split_at(contract.canonical_length(rest)?);
        elements.push(element.as_bytes());
        if behind == "]" {
            return Some(elements);
        }
        rest = behind.strip_prefix(',')?;
    }
    None
}

/// Collects the elements of an array. Raw values are skipped without recursion, so nesting is not limited.
struct Elements {
    limit: usize,
}

impl<'de> Visitor<'de> for Elements {
    type Value = Vec<&'de [u8]>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at most {} records", self.limit)
    }

    fn visit_seq<S: SeqAccess<'de>>(self, mut seq: S) -> Result<Self::Value, S::Error> {
        let mut elements = Vec::new();
        while let Some(element) = seq.next_element::<&RawValue>()? {
            if elements.len() == self.limit {
                return Err(de::Error::invalid_length(self.limit + 1, &self));
            }
            elements.push(element.get().as_bytes());
        }
        Ok(elements)
    }
}

fn not_json(error: &serde_json::Error) -> FramingError {
    let mut cause = error.to_string();
    if let Some(end) = cause.rfind(" at line ") {
        cause.truncate(end);
    }
    FramingError::NotJson {
        line: error.line(),
        column: error.column(),
        cause,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn format(content_type: &str) -> Option<Format> {
        Format::from_content_type(&HeaderValue::from_str(content_type).unwrap())
    }

    fn texts(format: Format, body: &str) -> Result<Vec<String>, FramingError> {
        let records = format.split(&Contract::user(), body.as_bytes(), 3)?;
        Ok(records
            .iter()
            .map(|record| String::from_utf8_lossy(record).into_owned())
            .collect())
    }

    #[test]
    fn media_types_are_parsed_with_parameters() {
        assert_eq!(format("application/json"), Some(Format::Json));
        assert_eq!(format("Application/JSON; charset=\"UTF-8\""), Some(Format::Json));
        assert_eq!(format("application/x-ndjson;charset=utf-8"), Some(Format::Ndjson));
        assert_eq!(format("application/json; profile=x"), Some(Format::Json));
        for other in [
            "",
            "text/plain",
            "application/jsonx",
            "application/json; charset=latin1",
        ] {
            assert_eq!(format(other), None, "{other}");
        }
    }

    #[test]
    fn json_value_or_array_elements_are_records() {
        assert_eq!(texts(Format::Json, " {\"a\":1}\n").unwrap(), ["{\"a\":1}"]);
        assert_eq!(texts(Format::Json, "3").unwrap(), ["3"]);
        assert_eq!(
            texts(Format::Json, " [ {} , [1, 2],null ] ").unwrap(),
            ["{}", "[1, 2]", "null"]
        );
    }

    #[test]
    fn ndjson_lines_are_records_with_any_content() {
        let body = "{}\r\n\n  \t\nnot json\n{\"cut\":";
        assert_eq!(
            texts(Format::Ndjson, body).unwrap(),
            ["{}", "not json", "{\"cut\":"]
        );
    }

    #[test]
    fn invalid_json_is_reported_with_line_and_column() {
        for (body, position) in [
            ("[{},\n{}", (2, 2)),
            ("[{}] x", (1, 6)),
            ("{}}", (1, 3)),
            ("[1,]", (1, 4)),
        ] {
            let Err(FramingError::NotJson { line, column, cause }) = texts(Format::Json, body) else {
                panic!("{body}")
            };
            assert_eq!((line, column), position, "{body}");
            assert!(!cause.contains("line"), "{cause}");
        }
        assert!(matches!(
            texts(Format::Json, ""),
            Err(FramingError::NotJson { .. })
        ));
        assert!(matches!(
            Format::Json.split(&Contract::user(), b"[\"\xff\"]", 3),
            Err(FramingError::NotJson { .. })
        ));
    }

    #[test]
    fn empty_and_too_large_bodies_differ() {
        assert_eq!(texts(Format::Json, "[ ]"), Err(FramingError::Empty));
        assert_eq!(texts(Format::Ndjson, "\n \n"), Err(FramingError::Empty));
        let too_many = Err(FramingError::TooMany { limit: 3 });
        assert_eq!(texts(Format::Json, "[1,2,3,4]"), too_many);
        assert_eq!(texts(Format::Ndjson, "1\n2\n3\n4"), too_many);
        assert_eq!(texts(Format::Json, "[1,2,3]").unwrap().len(), 3);
    }

    #[test]
    fn nesting_is_not_limited() {
        let deep = format!("[{}{}]", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(texts(Format::Json, &deep).unwrap().len(), 1);
        let open = "[".repeat(100_000);
        assert!(matches!(
            texts(Format::Json, &open),
            Err(FramingError::NotJson { .. })
        ));
    }
}
