//! Records with one error, which both readers refuse.

use model::{Field, Presence, Scalar};
use rand::RngExt as _;
use rand::rngs::StdRng;
use rand::seq::{IndexedRandom as _, IteratorRandom as _};

use super::value::Spelling;
use super::{Generator, object};

impl Generator {
    /// Generates a line that neither reader accepts.
    pub fn invalid(&self, rng: &mut StdRng) -> Vec<u8> {
        let mut values = self.values(rng.random(), Spelling::Canonical, rng);
        let fields = self.contract.fields();
        let slot = rng.random_range(0..fields.len());
        match rng.random_range(0..12) {
            0 => return b"{".to_vec(),
            1 => return b"[1]".to_vec(),
            2 => {
                let required = (0..fields.len()).filter(|slot| fields[*slot].is_required());
                values[required.choose(rng).unwrap_or(slot)] = None;
            }
            3 => values[slot] = Some("null".to_owned()),
            4 => {
                let other = if fields[slot].presence() == Presence::Map {
                    "[]"
                } else {
                    "{}"
                };
                // An empty map is given in braces, and a list in brackets.
                values[slot] = Some(other.to_owned());
            }
            5 => return twice(self, &values),
            _ => values[slot] = Some(broken(&fields[slot], rng)),
        }
        self.json(&values, Spelling::Canonical)
    }
}

/// The record with the key's field in it twice.
fn twice(generator: &Generator, values: &[Option<String>]) -> Vec<u8> {
    let fields = generator.contract.fields();
    let given = (0..fields.len()).filter_map(|slot| Some((fields[slot].name(), values[slot].as_deref()?)));
    let mut members: Vec<_> = given.collect();
    let key = generator.contract.key();
    members.extend(values[key].as_deref().map(|value| (fields[key].name(), value)));
    object(&members, Spelling::Canonical)
}

/// A value that breaks a rule of the field.
fn broken(field: &Field, rng: &mut StdRng) -> String {
    let value = scalar(field, rng);
    match field.presence() {
        Presence::Required | Presence::Optional => value,
        Presence::List => format!("[{value}]"),
        Presence::Map => format!("{{\"a\":{value}}}"),
    }
}

fn scalar(field: &Field, rng: &mut StdRng) -> String {
    let choices: &[&str] = match field.scalar() {
        Scalar::Text if field.is_email() => &["\"nobody\"", "\"a@b@c\"", "\"@\""],
        Scalar::Text => {
            if rng.random_ratio(1, 3) {
                let length = usize::try_from(field.max_length()).unwrap_or(0) + 1;
                return format!("\"{}\"", "x".repeat(length));
            }
            &["\"\"", "\"  \"", "\"a\\u0000\"", "\"\\ud800\""]
        }
        Scalar::Uuid => &["\"nobody\"", "\"00000000-0000-0000-0000-000000000000\""],
        Scalar::Bool => &["\"true\"", "1"],
        Scalar::Int32 => &["2147483648", "1.5", "\"1e3\"", "\"\""],
        Scalar::Uint32 => &["-1", "4294967296", "true"],
        Scalar::Int64 => &["9223372036854775808", "\"0x1\"", "1e3"],
        Scalar::Float => &["1e39", "\"1\"", "\"NaN\""],
        Scalar::Double => &["1e309", "\"1\"", "\"NaN\""],
        Scalar::Bytes => &["\"*\"", "\"AB\"", "7"],
        Scalar::Enum(_) => &["\"no name\"", "0"],
        Scalar::Timestamp => &["\"yesterday\"", "\"2024-02-30T00:00:00Z\"", "1700000000000"],
    };
    (*choices.choose(rng).unwrap_or(&"null")).to_owned()
}
