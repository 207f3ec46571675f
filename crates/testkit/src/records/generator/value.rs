//! Valid values as raw JSON, by the field's type and rules.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use model::{Field, Instant, Presence, Scalar};
use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{Rng, RngExt as _};
use uuid::Builder;

/// The maximum of a generated text in characters, whatever the contract allows: a record has at most 64 KiB.
const MAX_TEXT: usize = 2_000;
/// Instants from 1900 to 2100, in milliseconds since 1970.
const INSTANTS: std::ops::Range<i64> = -2_208_988_800_000..4_102_444_800_000;
/// The first and last instants of the contract's type.
const INSTANT_LIMITS: [i64; 2] = [-62_135_596_800_000, 253_402_300_799_999];

/// How values are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spelling {
    /// As the canonical encoding has them.
    Canonical,
    /// In other forms that a caller may send.
    Varied,
}

impl Spelling {
    /// One record of four is varied.
    pub(super) fn random(rng: &mut StdRng) -> Self {
        if rng.random_ratio(1, 4) {
            Self::Varied
        } else {
            Self::Canonical
        }
    }

    fn choose<T>(self, canonical: T, varied: T) -> T {
        match self {
            Self::Canonical => canonical,
            Self::Varied => varied,
        }
    }
}

/// A value of a field of the primary key: short, and without the limits of its type, which would repeat.
pub(super) fn of_key(field: &Field, spelling: Spelling, rng: &mut StdRng) -> String {
    match field.scalar() {
        Scalar::Text => quote(&short_text(field, rng), spelling),
        Scalar::Int32 => integer(i64::from(rng.random::<i32>()), spelling),
        Scalar::Uint32 => integer(i64::from(rng.random::<u32>()), spelling),
        Scalar::Int64 => long(rng.random(), spelling),
        Scalar::Timestamp => instant(rng.random_range(INSTANTS), spelling),
        _ => of(field, spelling, rng),
    }
}

/// A value of a field.
pub(super) fn of(field: &Field, spelling: Spelling, rng: &mut StdRng) -> String {
    match field.presence() {
        Presence::Required | Presence::Optional => scalar(field, spelling, rng),
        Presence::List => {
            let elements = (0..rng.random_range(0..5)).map(|_| scalar(field, spelling, rng));
            format!("[{}]", elements.collect::<Vec<_>>().join(","))
        }
        Presence::Map => {
            let entries = (0..rng.random_range(0..5)).map(|index: u8| {
                let name = map_key(field, index, rng);
                format!("{}:{}", quote(&name, spelling), scalar(field, spelling, rng))
            });
            format!("{{{}}}", entries.collect::<Vec<_>>().join(","))
        }
    }
}

/// The key of the map's entry with this index: the index comes first, so that keys differ.
fn map_key(field: &Field, index: u8, rng: &mut StdRng) -> String {
    let key = format!(
        "{index}{}",
        ["", " é", "\"", "\u{1f600}"].choose(rng).unwrap_or(&"")
    );
    key.chars().take(max_length(field)).collect()
}

fn scalar(field: &Field, spelling: Spelling, rng: &mut StdRng) -> String {
    match field.scalar() {
        Scalar::Text => quote(&text(field, rng), spelling),
        Scalar::Uuid => {
            let uuid = Builder::from_random_bytes(rng.random()).into_uuid().to_string();
            quote(
                &spelling.choose(uuid.clone(), uuid.to_uppercase()),
                Spelling::Canonical,
            )
        }
        Scalar::Bool => rng.random::<bool>().to_string(),
        Scalar::Int32 => {
            let limits = [0, -1, i32::MIN, i32::MAX];
            integer(i64::from(or_limit(rng.random(), &limits, rng)), spelling)
        }
        Scalar::Uint32 => integer(i64::from(or_limit(rng.random(), &[0, u32::MAX], rng)), spelling),
        Scalar::Int64 => {
            let limits = [0, -1, i64::MIN, i64::MAX, (1 << 53) + 1];
            long(or_limit(rng.random(), &limits, rng), spelling)
        }
        Scalar::Float => {
            let number = rng.random::<f32>() * 10_f32.powi(rng.random_range(-9..9));
            let number = or_limit(number, &[0.0, -0.0, f32::MIN, f32::MIN_POSITIVE], rng);
            spelling.choose(to_json(&number), format!("{number:e}"))
        }
        Scalar::Double => {
            let number = rng.random::<f64>() * 10_f64.powi(rng.random_range(-9..9));
            let number = or_limit(number, &[0.0, -0.0, f64::MAX, f64::MIN_POSITIVE], rng);
            spelling.choose(to_json(&number), format!("{number:e}"))
        }
        Scalar::Bytes => {
            let mut bytes = vec![0; rng.random_range(0..48)];
            rng.fill_bytes(&mut bytes);
            to_json(&spelling.choose(STANDARD.encode(&bytes), URL_SAFE_NO_PAD.encode(&bytes)))
        }
        Scalar::Enum(names) => to_json(names.choose(rng).expect("an enum has a name")),
        Scalar::Timestamp => {
            let millis = rng.random_range(INSTANTS);
            instant(or_limit(millis, &INSTANT_LIMITS, rng), spelling)
        }
    }
}

/// One value of sixteen is a limit of its type.
fn or_limit<T: Copy>(value: T, limits: &[T], rng: &mut StdRng) -> T {
    if rng.random_ratio(1, 16) {
        *limits.choose(rng).unwrap_or(&value)
    } else {
        value
    }
}

fn max_length(field: &Field) -> usize {
    usize::try_from(field.max_length()).map_or(MAX_TEXT, |limit| limit.min(MAX_TEXT))
}

/// A text that another call does not return, unless it is very short.
fn short_text(field: &Field, rng: &mut StdRng) -> String {
    let (tag, limit) = (format!("{:016x}", rng.random::<u64>()), max_length(field));
    if field.is_email() {
        let local = &tag[..limit.saturating_sub(2).clamp(1, tag.len())];
        return format!("{local}@b");
    }
    let prefix = ["", "", "Zoë ", "東京/", "a\"b\\", "%2F?", "\u{1f600}\t"].choose(rng);
    let prefix = prefix.unwrap_or(&"");
    if limit >= prefix.chars().count() + tag.len() {
        format!("{prefix}{tag}")
    } else {
        tag.chars().take(limit).collect()
    }
}

/// A short text, or the longest one.
fn text(field: &Field, rng: &mut StdRng) -> String {
    let mut text = short_text(field, rng);
    if !field.is_email() && rng.random_ratio(1, 64) {
        let missing = max_length(field).saturating_sub(text.chars().count());
        text.extend((0..missing).map(|_| char::from(rng.random_range(b'a'..=b'z'))));
    }
    text
}

fn quote(text: &str, spelling: Spelling) -> String {
    let quoted = to_json(&text);
    let first = text.chars().next().filter(char::is_ascii_alphanumeric);
    match (spelling, first) {
        (Spelling::Varied, Some(first)) => format!("\"\\u{:04x}{}", u32::from(first), &quoted[2..]),
        _ => quoted,
    }
}

/// An integer of at most 32 bits.
fn integer(number: i64, spelling: Spelling) -> String {
    spelling.choose(number.to_string(), format!("\"{number}\""))
}

/// An integer of 64 bits, which the canonical encoding has in quotes.
fn long(number: i64, spelling: Spelling) -> String {
    spelling.choose(format!("\"{number}\""), number.to_string())
}

fn instant(millis: i64, spelling: Spelling) -> String {
    const OFFSET_MS: i64 = (5 * 60 + 30) * 60_000;
    let text = |millis| Instant::from_millis(millis).map(|instant| instant.to_string());
    let utc = text(millis).expect("the ranges are those of the type");
    match text(millis + OFFSET_MS) {
        Ok(local) if spelling == Spelling::Varied => {
            format!("\"{}999+05:30\"", local.trim_end_matches('Z'))
        }
        _ => format!("\"{utc}\""),
    }
}

fn to_json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("numbers and texts are JSON")
}
