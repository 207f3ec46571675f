//! Parses the canonical encoding in one scan. Nearly all records have it; `parse` reads the others and reports errors.

use std::borrow::Cow;

use super::user::{User, UserFields};
use crate::types::Instant;

impl<'a> User<'a> {
    /// Parses a record in the canonical encoding without escapes; any other text is `None`. Takes one scan, where
    /// [`User::parse_strict`] and [`User::is_canonical`] together take three. The result is the same.
    #[must_use]
    pub fn parse_canonical(json: &'a [u8]) -> Option<Self> {
        let mut scan = Scan {
            rest: std::str::from_utf8(json).ok()?,
        };
        let fields = scan.record()?;
        let id = fields.id.clone();
        let user = Self::new(fields).ok()?;
        // A uuid in upper case is valid but not canonical.
        let is_canonical = scan.rest.is_empty() && user.id().text().as_str() == id;
        is_canonical.then_some(user)
    }
}

/// The length in bytes of the record at the start of a text, if it has the form of the canonical encoding: the fields in
/// order, without white space or escapes. That form is valid JSON; its values are not checked.
#[must_use]
pub fn canonical_length(text: &str) -> Option<usize> {
    let mut scan = Scan { rest: text };
    scan.record()?;
    Some(text.len() - scan.rest.len())
}

/// A cursor over a text.
struct Scan<'a> {
    rest: &'a str,
}

impl<'a> Scan<'a> {
    fn record(&mut self) -> Option<UserFields<'a>> {
        let fields = UserFields {
            id: self.text("{\"id\":\"")?,
            first_name: self.text("\",\"first_name\":\"")?,
            last_name: self.text("\",\"last_name\":\"")?,
            gender: self.text("\",\"gender\":\"")?,
            address: self.text("\",\"address\":\"")?,
            post_code: self.text("\",\"post_code\":\"")?,
            email: self.text("\",\"email\":\"")?,
            username: self.text("\",\"username\":\"")?,
            dob: self.instant("\",\"dob\":\"")?,
            registered_date: self.registered_date()?,
            phone: self.text("\",\"phone\":\"")?,
            picture: self.text("\",\"picture\":\"")?,
        };
        self.rest = self.rest.strip_prefix("\"}")?;
        Some(fields)
    }

    /// Reads the string after `before`, if it has no escape, up to its closing quote.
    fn text(&mut self, before: &str) -> Option<Cow<'a, str>> {
        let rest = self.rest.strip_prefix(before)?;
        let ends = |byte| matches!(byte, 0..b' ' | b'"' | b'\\');
        let (text, rest) = rest.split_at(rest.bytes().position(ends)?);
        self.rest = rest;
        rest.starts_with('"').then_some(Cow::Borrowed(text))
    }

    /// Reads a string that has the form of a canonical instant; its value is not checked.
    fn instant(&mut self, before: &str) -> Option<Cow<'a, str>> {
        self.text(before).filter(|text| Instant::has_canonical_form(text))
    }

    /// `None` if it is not canonical, `Some(None)` if it is absent.
    fn registered_date(&mut self) -> Option<Option<Cow<'a, str>>> {
        const BEFORE: &str = "\",\"registered_date\":\"";
        if self.rest.starts_with(BEFORE) {
            self.instant(BEFORE).map(Some)
        } else {
            Some(None)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORD: &str = r#"{"id":"0195d0b1-7a4c-7f3e-9b1a-2c3d4e5f6071","first_name":"Zoë","last_name":"O'Neill","gender":"female","address":"12 Main Street","post_code":"0378","email":"zoe@example.com","username":"zebra12","dob":"1968-02-29T01:02:03.004Z","registered_date":"2015-01-02T03:04:05.006Z","phone":"041","picture":"https://example.com/1.jpg"}"#;

    #[test]
    fn canonical_encoding_parses_like_parse_strict() {
        let without = RECORD.replace(r#""registered_date":"2015-01-02T03:04:05.006Z","#, "");
        for json in [RECORD, &without] {
            let user = User::parse_canonical(json.as_bytes()).unwrap();
            assert_eq!(user, User::parse_strict(json.as_bytes()).unwrap());
            assert!(user.is_canonical(json.as_bytes()));
            assert_eq!(canonical_length(&format!("{json},{json}")), Some(json.len()));
        }
    }

    #[test]
    fn other_valid_encodings_are_none() {
        let valid = [
            ("{", "{ "),
            ("Zoë", "Zo\\u00eb"),
            ("0195d0b1", "0195D0B1"),
            ("03.004Z", "03.0040Z"),
            ("T01:02", "t01:02"),
            ("05.006Z", "05.006+00:00"),
        ];
        for (from, to) in valid {
            let json = RECORD.replace(from, to);
            assert!(
                json != RECORD && User::parse_strict(json.as_bytes()).is_ok(),
                "{json}"
            );
            assert!(User::parse_canonical(json.as_bytes()).is_none(), "{json}");
        }
    }

    #[test]
    fn invalid_records_are_none() {
        for (from, to) in [
            ("0195d0b1-7a4c", "0195d0b1-7a4"),
            ("Zoë", " "),
            ("Zoë", "a\u{1}b"),
            ("zoe@", "zoe"),
            ("-02-29T", "-02-30T"),
            ("jpg\"}", "jpg\"} "),
            ("jpg\"}", "jpg\""),
            ("\"phone\"", "\"fone\""),
        ] {
            let json = RECORD.replace(from, to);
            assert!(
                json != RECORD && User::parse_canonical(json.as_bytes()).is_none(),
                "{json}"
            );
        }
        assert!(User::parse_canonical(b"").is_none());
        assert!(canonical_length(&RECORD[..RECORD.len() - 1]).is_none());
    }
}
