//! The type of the record's instants, in UTC with milliseconds.

use std::{fmt, str::FromStr};

use jiff::{SignedDuration, civil::DateTime};
use serde::{Serialize, Serializer};

use super::reason::Reason;

/// An instant of the years 0001 to 9999 UTC, the range of `google.protobuf.Timestamp`, in whole milliseconds.
///
/// Parses RFC 3339: date, `T`, time, an optional fraction of any length, `Z` or an offset; `T` and `Z` in either case.
/// Truncates the fraction to milliseconds. Refuses leap seconds, like the contract's type. The text is
/// `YYYY-MM-DDTHH:MM:SS.mmmZ`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Instant(i64);

// Civil dates, because jiff's timestamp ends a day before the year 9999 does.
const EPOCH: DateTime = DateTime::constant(1970, 1, 1, 0, 0, 0, 0);
const EARLIEST_MS: i64 = -62_135_596_800_000;
const LATEST_MS: i64 = 253_402_300_799_999;
const TEXT_LENGTH: usize = "YYYY-MM-DDTHH:MM:SS.mmmZ".len();

impl Instant {
    /// Converts milliseconds since 1970-01-01T00:00:00Z.
    ///
    /// # Errors
    /// [`Reason::OutOfRange`].
    pub fn from_millis(millis: i64) -> Result<Self, Reason> {
        if (EARLIEST_MS..=LATEST_MS).contains(&millis) {
            Ok(Self(millis))
        } else {
            Err(Reason::OutOfRange)
        }
    }

    /// Milliseconds since 1970-01-01T00:00:00Z, negative before it.
    #[must_use]
    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// Whether a text has the length and the separators of the canonical form; the digits are not checked.
    pub(crate) fn has_canonical_form(text: &str) -> bool {
        let text = text.as_bytes();
        text.len() == TEXT_LENGTH && text[10] == b'T' && text[19] == b'.' && text[23] == b'Z'
    }

    fn text(self) -> [u8; TEXT_LENGTH] {
        let civil = EPOCH
            .checked_add(SignedDuration::from_millis(self.0))
            .expect("an instant is in the range of the civil calendar");
        let mut text = *b"0000-00-00T00:00:00.000Z";
        write_digits(&mut text[0..4], civil.year());
        write_digits(&mut text[5..7], civil.month().into());
        write_digits(&mut text[8..10], civil.day().into());
        write_digits(&mut text[11..13], civil.hour().into());
        write_digits(&mut text[14..16], civil.minute().into());
        write_digits(&mut text[17..19], civil.second().into());
        write_digits(&mut text[20..23], civil.millisecond());
        text
    }
}

fn write_digits(target: &mut [u8], number: i16) {
    let mut rest = number.unsigned_abs();
    for digit in target.iter_mut().rev() {
        *digit = b'0' + (rest % 10).to_le_bytes()[0];
        rest /= 10;
    }
}

impl FromStr for Instant {
    type Err = Reason;

    fn from_str(text: &str) -> Result<Self, Reason> {
        let (civil, rest) = date_and_time(text.as_bytes()).ok_or(Reason::NotAnInstant)?;
        let (millis, rest) = fraction(rest).ok_or(Reason::NotAnInstant)?;
        let offset = offset_minutes(rest).ok_or(Reason::NotAnInstant)?;
        let seconds = civil.duration_since(EPOCH).as_secs() - i64::from(offset) * 60;
        Self::from_millis(seconds * 1000 + i64::from(millis))
    }
}

fn date_and_time(text: &[u8]) -> Option<(DateTime, &[u8])> {
    let [
        y1,
        y2,
        y3,
        y4,
        b'-',
        mo1,
        mo2,
        b'-',
        d1,
        d2,
        b'T' | b't',
        h1,
        h2,
        b':',
        mi1,
        mi2,
        b':',
        s1,
        s2,
        rest @ ..,
    ] = text
    else {
        return None;
    };
    let year = i16::from(two_digits(*y1, *y2)?) * 100 + i16::from(two_digits(*y3, *y4)?);
    let civil = DateTime::new(
        year,
        two_digits(*mo1, *mo2)?,
        two_digits(*d1, *d2)?,
        two_digits(*h1, *h2)?,
        two_digits(*mi1, *mi2)?,
        two_digits(*s1, *s2)?,
        0,
    );
    Some((civil.ok()?, rest))
}

/// The milliseconds of an optional fraction of a second, and the rest of the text.
fn fraction(text: &[u8]) -> Option<(u16, &[u8])> {
    let Some((b'.', text)) = text.split_first() else {
        return Some((0, text));
    };
    let length = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, rest) = text.split_at(length);
    let padded = digits.iter().copied().chain([b'0'; 2]).take(3);
    let millis = padded.fold(0, |millis, digit| millis * 10 + u16::from(digit - b'0'));
    (length > 0).then_some((millis, rest))
}

/// The offset from UTC in minutes, which must be the rest of the text.
fn offset_minutes(text: &[u8]) -> Option<i16> {
    let (sign, [h1, h2, b':', m1, m2]) = (match text {
        [b'Z' | b'z'] => return Some(0),
        [b'+', rest @ ..] => (1, rest),
        [b'-', rest @ ..] => (-1, rest),
        _ => return None,
    }) else {
        return None;
    };
    let (hours, minutes) = (two_digits(*h1, *h2)?, two_digits(*m1, *m2)?);
    (hours < 24 && minutes < 60).then(|| sign * (i16::from(hours) * 60 + i16::from(minutes)))
}

fn two_digits(tens: u8, ones: u8) -> Option<i8> {
    if !(tens.is_ascii_digit() && ones.is_ascii_digit()) {
        return None;
    }
    Some(((tens - b'0') * 10 + (ones - b'0')).cast_signed())
}

impl fmt::Display for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        as_str(&self.text()).fmt(f)
    }
}

/// Does not show the instant: it is personal data.
impl fmt::Debug for Instant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Instant(..)")
    }
}

impl Serialize for Instant {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(as_str(&self.text()))
    }
}

fn as_str(text: &[u8; TEXT_LENGTH]) -> &str {
    std::str::from_utf8(text).expect("the text of an instant is ASCII")
}
