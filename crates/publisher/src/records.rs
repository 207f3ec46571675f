//! A body → the bytes of each record in it. It finds where records begin and end, so that one bad record is a
//! verdict on that record and not the end of the request; it does not look into them.

use std::fmt;

use axum::http::HeaderValue;
use model::canonical_length;
use model::headers::{JSON, NDJSON};
use serde::Deserializer as _;
use serde::de::{self, SeqAccess, Visitor};
use serde_json::error::Category;
use serde_json::value::RawValue;
use thiserror::Error;

/// How records stand in a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON value, or an array of them.
    Json,
    /// A JSON value on each line; blank lines count for nothing.
    Ndjson,
}

/// The records of a body can't be told apart.
#[derive(Debug, PartialEq, Eq, Error)]
pub enum RecordsError {
    /// The body is no JSON text.
    #[error("{cause} at line {line} column {column}")]
    NotJson {
        /// Counted from 1.
        line: usize,
        /// In bytes, counted from 1; 0 is the place before a line's first byte.
        column: usize,
        /// What the JSON parser missed; one of its constant texts.
        cause: String,
    },
    /// There is no record in it.
    #[error("the body holds no records")]
    Empty,
    /// There are too many in it.
    #[error("the body holds more than {limit} records")]
    TooMany {
        /// The limit.
        limit: usize,
    },
}

impl Format {
    /// What a `Content-Type` stands for. Parameters are tolerated, but for a `charset` other than UTF-8.
    pub fn of(content_type: &HeaderValue) -> Option<Self> {
        let mut parts = content_type.to_str().ok()?.split(';').map(str::trim);
        let media_type = parts.next()?;
        if !parts.all(is_harmless) {
            None
        } else if media_type.eq_ignore_ascii_case(JSON) {
            Some(Self::Json)
        } else if media_type.eq_ignore_ascii_case(NDJSON) {
            Some(Self::Ndjson)
        } else {
            None
        }
    }

    /// The bytes of each record of `body`, of at most `limit`.
    ///
    /// A single JSON value and the elements of an array are well-formed JSON; a line may be anything.
    ///
    /// # Errors
    /// Each [`RecordsError`].
    pub fn split(self, body: &[u8], limit: usize) -> Result<Vec<&[u8]>, RecordsError> {
        let records = match self {
            Self::Ndjson => lines(body, limit)?,
            Self::Json if is_array(body) => elements(body, limit)?,
            Self::Json => vec![value(body)?],
        };
        if records.is_empty() {
            Err(RecordsError::Empty)
        } else {
            Ok(records)
        }
    }
}

fn is_harmless(parameter: &str) -> bool {
    match parameter.split_once('=') {
        Some((name, value)) if name.trim().eq_ignore_ascii_case("charset") => {
            value.trim().trim_matches('"').eq_ignore_ascii_case("utf-8")
        }
        _ => true,
    }
}

fn lines(body: &[u8], limit: usize) -> Result<Vec<&[u8]>, RecordsError> {
    let mut records = Vec::new();
    for line in body.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii) {
        if !line.is_empty() {
            if records.len() == limit {
                return Err(RecordsError::TooMany { limit });
            }
            records.push(line);
        }
    }
    Ok(records)
}

fn is_array(body: &[u8]) -> bool {
    body.trim_ascii_start().first() == Some(&b'[')
}

fn value(body: &[u8]) -> Result<&[u8], RecordsError> {
    if std::str::from_utf8(body).ok().and_then(canonical_length) == Some(body.len()) {
        return Ok(body);
    }
    let value: &RawValue = serde_json::from_slice(body).map_err(|error| not_json(&error))?;
    Ok(value.get().as_bytes())
}

fn elements(body: &[u8], limit: usize) -> Result<Vec<&[u8]>, RecordsError> {
    if let Some(elements) = canonical_elements(body, limit) {
        return Ok(elements);
    }
    let mut array = serde_json::Deserializer::from_slice(body);
    let elements = array
        .deserialize_seq(Elements { limit })
        .and_then(|elements| array.end().map(|()| elements));
    elements.map_err(|error| match error.classify() {
        Category::Data => RecordsError::TooMany { limit }, // The visitor's own error is the only one of this kind.
        _ => not_json(&error),
    })
}

/// The elements of an array of nothing but records in the canonical encoding, as most arrays are: each is seen to be
/// JSON in the scan that finds its end. Any other array is the parser's.
fn canonical_elements(body: &[u8], limit: usize) -> Option<Vec<&[u8]>> {
    let mut rest = std::str::from_utf8(body).ok()?.strip_prefix('[')?;
    let mut elements = Vec::new();
    while elements.len() < limit {
        let (element, behind) = rest.split_at(canonical_length(rest)?);
        elements.push(element.as_bytes());
        if behind == "]" {
            return Some(elements);
        }
        rest = behind.strip_prefix(',')?;
    }
    None
}

/// Raw values are skipped over without recursion, so that no nesting is too deep.
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

fn not_json(error: &serde_json::Error) -> RecordsError {
    let mut cause = error.to_string();
    if let Some(end) = cause.rfind(" at line ") {
        cause.truncate(end);
    }
    RecordsError::NotJson {
        line: error.line(),
        column: error.column(),
        cause,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn format(content_type: &str) -> Option<Format> {
        Format::of(&HeaderValue::from_str(content_type).unwrap())
    }

    fn texts(format: Format, body: &str) -> Result<Vec<String>, RecordsError> {
        let records = format.split(body.as_bytes(), 3)?;
        Ok(records
            .iter()
            .map(|record| String::from_utf8_lossy(record).into_owned())
            .collect())
    }

    #[test]
    fn the_two_media_types_are_known_with_their_parameters() {
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
    fn one_value_or_the_elements_of_an_array_are_records() {
        assert_eq!(texts(Format::Json, " {\"a\":1}\n").unwrap(), ["{\"a\":1}"]);
        assert_eq!(texts(Format::Json, "3").unwrap(), ["3"]);
        assert_eq!(
            texts(Format::Json, " [ {} , [1, 2],null ] ").unwrap(),
            ["{}", "[1, 2]", "null"]
        );
    }

    #[test]
    fn lines_are_records_whatever_is_in_them() {
        let body = "{}\r\n\n  \t\nnot json\n{\"cut\":";
        assert_eq!(
            texts(Format::Ndjson, body).unwrap(),
            ["{}", "not json", "{\"cut\":"]
        );
    }

    #[test]
    fn what_is_no_json_is_told_with_its_place() {
        for (body, place) in [
            ("[{},\n{}", (2, 2)),
            ("[{}] x", (1, 6)),
            ("{}}", (1, 3)),
            ("[1,]", (1, 4)),
        ] {
            let Err(RecordsError::NotJson { line, column, cause }) = texts(Format::Json, body) else {
                panic!("{body}")
            };
            assert_eq!((line, column), place, "{body}");
            assert!(!cause.contains("line"), "{cause}");
        }
        assert!(matches!(
            texts(Format::Json, ""),
            Err(RecordsError::NotJson { .. })
        ));
        assert!(matches!(
            Format::Json.split(b"[\"\xff\"]", 3),
            Err(RecordsError::NotJson { .. })
        ));
    }

    #[test]
    fn nothing_and_too_much_are_told_apart() {
        assert_eq!(texts(Format::Json, "[ ]"), Err(RecordsError::Empty));
        assert_eq!(texts(Format::Ndjson, "\n \n"), Err(RecordsError::Empty));
        let too_many = Err(RecordsError::TooMany { limit: 3 });
        assert_eq!(texts(Format::Json, "[1,2,3,4]"), too_many);
        assert_eq!(texts(Format::Ndjson, "1\n2\n3\n4"), too_many);
        assert_eq!(texts(Format::Json, "[1,2,3]").unwrap().len(), 3);
    }

    #[test]
    fn no_nesting_is_too_deep() {
        let deep = format!("[{}{}]", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(texts(Format::Json, &deep).unwrap().len(), 1);
        let open = "[".repeat(100_000);
        assert!(matches!(
            texts(Format::Json, &open),
            Err(RecordsError::NotJson { .. })
        ));
    }
}
