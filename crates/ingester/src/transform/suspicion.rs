//! Detects texts that were decoded with a wrong character set before they reached us. Such a user is valid and is sent, but
//! counted. Pure.

use std::borrow::Cow;

use crate::transform::api_user::{ApiUser, ApiValue};
use crate::transform::scalar::Scalar;

/// Why a user is suspicious.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suspicion {
    /// A text contains U+FFFD, which stands for bytes that could not be decoded.
    ReplacementCharacter,
    /// A text is UTF-8 that was decoded as Latin-1 or Windows-1252: `ZoÃ«` for `Zoë`.
    WrongCharacterSet,
}

impl Suspicion {
    /// Every variant.
    pub const ALL: [Self; 2] = [Self::ReplacementCharacter, Self::WrongCharacterSet];

    /// Returns the value of the `reason` label.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ReplacementCharacter => "replacement_character",
            Self::WrongCharacterSet => "wrong_character_set",
        }
    }

    /// Returns why `user` is suspicious, if it is.
    #[must_use]
    pub fn of(user: &ApiUser<'_>) -> Option<Self> {
        user.0.iter().filter_map(text).find_map(Self::of_text)
    }

    fn of_text(text: &str) -> Option<Self> {
        if text.is_ascii() {
            None
        } else if text.contains(char::REPLACEMENT_CHARACTER) {
            Some(Self::ReplacementCharacter)
        } else if is_utf8_in_bytes(text) {
            Some(Self::WrongCharacterSet)
        } else {
            None
        }
    }
}

fn text<'u>(value: &'u ApiValue<'_>) -> Option<&'u str> {
    match value {
        ApiValue::Given(Scalar::Text(Cow::Borrowed(text))) => Some(text),
        ApiValue::Given(Scalar::Text(Cow::Owned(text))) => Some(text),
        _ => None,
    }
}

/// The characters of Windows-1252 from 0x80 to 0x9F. Five bytes have none and stand for themselves, as in Latin-1.
const WINDOWS_1252: [char; 32] = [
    '€', '\u{81}', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\u{8d}', 'Ž', '\u{8f}', '\u{90}',
    '‘', '’', '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\u{9d}', 'ž', 'Ÿ',
];

/// Returns the byte that Latin-1 or Windows-1252 decodes as `c`.
fn byte_of(c: char) -> Option<u8> {
    let position = WINDOWS_1252.iter().position(|known| *known == c);
    let byte = position.map_or(u32::from(c), |position| {
        0x80 + u32::try_from(position).unwrap_or(u32::MAX)
    });
    u8::try_from(byte).ok()
}

/// Whether the characters of a text that is not ASCII, taken as bytes, are UTF-8. No name in a language is: it would need a
/// capital letter such as `Ã`, followed by a sign such as `«`.
fn is_utf8_in_bytes(text: &str) -> bool {
    let bytes: Option<Vec<u8>> = text.chars().map(byte_of).collect();
    bytes.is_some_and(|bytes| std::str::from_utf8(&bytes).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_any_language_are_not_suspicious() {
        for text in [
            "Aino",
            "Zoë",
            "José",
            "Łukasz",
            "Ömür",
            "Þór",
            "Àngel",
            "محمد",
            "Даниил",
            "নয়ন",
            "Nuño",
            "O’Brien",
            "Sørensen",
            "Français",
            "Straße",
            "Ÿ",
            "Åse",
            "Ødegård",
        ] {
            assert_eq!(Suspicion::of_text(text), None, "{text}");
        }
    }

    #[test]
    fn text_in_a_wrong_character_set_is_suspicious() {
        let latin_1 = |text: &str| text.bytes().map(char::from).collect::<String>();
        for text in ["Zoë", "José", "Łukasz", "محمد", "Даниил", "নয়ন"] {
            assert_eq!(
                Suspicion::of_text(&latin_1(text)),
                Some(Suspicion::WrongCharacterSet),
                "{text}"
            );
        }
        for text in ["ZoÃ«", "JosÃ©", "â€™Brien", "Å\u{81}ukasz", "Å½arko"] {
            assert_eq!(
                Suspicion::of_text(text),
                Some(Suspicion::WrongCharacterSet),
                "{text}"
            );
        }
    }

    #[test]
    fn replacement_character_is_suspicious() {
        for text in ["\u{fffd}", "\u{fffd}\u{fffd} \u{fffd}", "Zo\u{fffd}"] {
            assert_eq!(
                Suspicion::of_text(text),
                Some(Suspicion::ReplacementCharacter),
                "{text}"
            );
        }
    }
}
