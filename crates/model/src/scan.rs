//! The canonical encoding → record, in one scan. Nearly every record comes in it; what does not is read by `parse`,
//! which also tells what is wrong with what is no record.

use std::borrow::Cow;

use crate::{Instant, User, UserFields};

impl<'a> User<'a> {
    /// Reads a record in the canonical encoding and without an escape in it, and nothing else, in one scan where
    /// [`User::parse_strict`] and the question whether the text is canonical take three. The result is the same.
    #[must_use]
    pub fn parse_canonical(json: &'a [u8]) -> Option<Self> {
        let mut scan = Scan {
            rest: std::str::from_utf8(json).ok()?,
        };
        let fields = scan.record()?;
        let id = fields.id.clone();
        let user = Self::new(fields).ok()?;
        // A uuid may be written in upper case, too.
        let whole = scan.rest.is_empty() && user.id().text().as_str() == id;
        whole.then_some(user)
    }
}

/// How many bytes the record at the front of a text has, if it has the form of the canonical encoding: its fields in
/// their order, without white space or an escape. Such a form is JSON; whether its values are valid is not asked.
#[must_use]
pub fn canonical_length(text: &str) -> Option<usize> {
    let mut scan = Scan { rest: text };
    scan.record()?;
    Some(text.len() - scan.rest.len())
}

/// What is left of a text that is read from its front.
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

    /// The string that follows `before`, if it has no escape. Its closing quote is left.
    fn text(&mut self, before: &str) -> Option<Cow<'a, str>> {
        let rest = self.rest.strip_prefix(before)?;
        let ends = |byte| matches!(byte, 0..b' ' | b'"' | b'\\');
        let (text, rest) = rest.split_at(rest.bytes().position(ends)?);
        self.rest = rest;
        rest.starts_with('"').then_some(Cow::Borrowed(text))
    }

    /// The same of one that is written as instants are; that it is one is not asked.
    fn instant(&mut self, before: &str) -> Option<Cow<'a, str>> {
        self.text(before).filter(|text| Instant::has_canonical_form(text))
    }

    /// That it is absent is one thing, that it is written oddly another.
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
    fn the_canonical_encoding_is_read_as_the_parser_reads_it() {
        let without = RECORD.replace(r#""registered_date":"2015-01-02T03:04:05.006Z","#, "");
        for json in [RECORD, &without] {
            let user = User::parse_canonical(json.as_bytes()).unwrap();
            assert_eq!(user, User::parse_strict(json.as_bytes()).unwrap());
            assert!(user.is_canonical(json.as_bytes()));
            assert_eq!(canonical_length(&format!("{json},{json}")), Some(json.len()));
        }
    }

    #[test]
    fn whatever_is_written_otherwise_is_left_to_the_parser() {
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
    fn what_is_no_record_is_none() {
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
