//! Compares the contract's parser and encoder with the hand-written ones of the user: same verdicts, reasons, bytes.
//!
//! `AFFLUENT_TEST_FULL=1` compares 10^7 inputs.

use model::Invalid;
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};

use crate::any_record::{FIELDS, contract};
use crate::oracle::{Invalid as OracleInvalid, User};

const INPUTS: usize = 100_000;
const INPUTS_FULL: usize = 10_000_000;

/// What a parser says: the canonical encoding, or the field, reason, label and key of the first error.
type ParseOutcome = Result<Vec<u8>, (Option<String>, String, String, Option<String>)>;

fn of_oracle(verdict: Result<User<'_>, OracleInvalid>) -> ParseOutcome {
    verdict.map(|user| user.to_json()).map_err(|error| {
        let field = error.field_name().map(ToString::to_string);
        let (reason, label) = (error.reason().to_string(), error.reason().label().to_owned());
        (field, reason, label, error.id().map(|id| id.to_string()))
    })
}

fn of_contract(verdict: Result<model::Record<'_>, Invalid>) -> ParseOutcome {
    verdict.map(|record| record.to_json()).map_err(|error| {
        let field = error.field_name().map(ToString::to_string);
        let (reason, label) = (error.reason().to_string(), error.reason().label().to_owned());
        (field, reason, label, error.key().map(ToString::to_string))
    })
}

/// Compares both parsers, and returns whether the strict one accepted the input.
fn compare(json: &[u8]) -> bool {
    let strict = of_contract(contract().parse_strict(json));
    let shown = || String::from_utf8_lossy(json).into_owned();
    assert_eq!(strict, of_oracle(User::parse_strict(json)), "strict: {}", shown());
    let lenient = of_contract(contract().parse_lenient(json));
    assert_eq!(
        lenient,
        of_oracle(User::parse_lenient(json)),
        "lenient: {}",
        shown()
    );
    let is_canonical = strict.as_deref() == Ok(json) && !json.contains(&b'\\');
    let scanned = contract().parse_canonical(json);
    assert_eq!(
        scanned.map(|record| record.to_json()),
        is_canonical.then(|| json.to_vec()),
        "scan: {}",
        shown()
    );
    strict.is_ok()
}

struct Generator {
    random: SmallRng,
    json: Vec<u8>,
}

/// Texts that are near to a rule's limit, by field or for any.
const TEXTS: [&str; 26] = [
    "x",
    "",
    " ",
    "\\u3000",
    "\\u0000",
    "a\\ud800",
    "\\ud83d\\ude00",
    "\\u00e9\\n\\\"",
    "語語",
    "00000000-0000-0000-0000-000000000000",
    "0195d0b1-7a4c-7f3e-9b1a-2c3d4e5f6071",
    "0195D0B1-7A4C-7F3E-9B1A-2C3D4E5F6071",
    "0195d0b17a4c7f3e9b1a2c3d4e5f6071",
    "{0195d0b1-7a4c-7f3e-9b1a-2c3d4e5f607}",
    "a@b",
    "a@b@c",
    "@b",
    "1984-11-02T07:15:42.318Z",
    "1984-11-02T07:15:42Z",
    "1984-11-02t07:15:42.3189999+23:59",
    "0001-01-01T00:00:00+00:01",
    "9999-12-31T23:59:59.999Z",
    "9999-12-31T23:59:60Z",
    "1984-02-30T00:00:00Z",
    "1984-11-02 07:15:42Z",
    "0378",
];

/// JSON values of other types.
const OTHERS: [&str; 14] = [
    "null",
    "true",
    "0",
    "-0",
    "7",
    "-12",
    "1.0",
    "1e3",
    "1e999",
    "123456789012345678901234567890",
    "[]",
    "[1]",
    "{}",
    "{\"a\":1}",
];

const VALID: [&str; 12] = [
    "0195d0b1-7a4c-7f3e-9b1a-2c3d4e5f6071",
    "Margaret",
    "Okafor",
    "female",
    "4821 Orchard Lane",
    "50613",
    "margaret@example.com",
    "silverheron417",
    "1984-11-02T07:15:42.318Z",
    "2016-05-19T22:04:11.907Z",
    "(319) 555-0142",
    "https://pictures.example.com/17.jpg",
];

impl Generator {
    fn one_in(&mut self, number: u32) -> bool {
        self.random.random_range(0..number) == 0
    }

    fn pick<'a>(&mut self, texts: &[&'a str]) -> &'a str {
        texts[self.random.random_range(0..texts.len())]
    }

    fn space(&mut self) {
        if self.one_in(40) {
            let space = self.pick(&[" ", "\n", "\t \r"]);
            self.json.extend_from_slice(space.as_bytes());
        }
    }

    /// A record: usually with all fields in order and valid values, sometimes with anything else.
    fn record(&mut self) {
        self.json.clear();
        let mut order: Vec<usize> = (0..FIELDS.len()).collect();
        if self.one_in(4) {
            for _ in 0..3 {
                let (left, right) = (
                    self.random.random_range(0..order.len()),
                    self.random.random_range(0..order.len()),
                );
                order.swap(left, right);
            }
        }
        if self.one_in(6) {
            order.remove(self.random.random_range(0..order.len()));
        }
        if self.one_in(12) {
            order.push(self.random.random_range(0..FIELDS.len()));
        }
        let damage = if self.one_in(2) { u32::MAX } else { 6 };
        self.json.push(b'{');
        for (index, slot) in order.into_iter().enumerate() {
            if index > 0 {
                self.json.push(b',');
            }
            self.space();
            self.name(FIELDS[slot]);
            self.json.push(b':');
            self.space();
            self.value(VALID[slot], damage);
            self.space();
        }
        self.json.push(b'}');
    }

    fn name(&mut self, name: &str) {
        let name = match self.random.random_range(0..200_u32) {
            0 => "unknown",
            1 => "\\u0069d",
            2 => "post\\ud800",
            3 => "ID",
            _ => name,
        };
        self.quoted(name);
    }

    fn value(&mut self, valid: &str, damage: u32) {
        if !self.one_in(damage) {
            self.quoted(valid);
        } else if self.one_in(3) {
            let other = self.pick(&OTHERS);
            self.json.extend_from_slice(other.as_bytes());
        } else if self.one_in(12) {
            let (text, count) = (self.pick(&["y", "é", "語"]), self.random.random_range(510..515));
            self.quoted(&text.repeat(count));
        } else {
            let text = self.pick(&TEXTS);
            self.quoted(text);
        }
    }

    fn quoted(&mut self, text: &str) {
        self.json.push(b'"');
        self.json.extend_from_slice(text.as_bytes());
        self.json.push(b'"');
    }

    /// Changes, removes, repeats or inserts bytes of the record.
    fn mutate(&mut self) {
        for _ in 0..self.random.random_range(1..4_u32) {
            let length = self.json.len();
            if length == 0 {
                return;
            }
            let place = self.random.random_range(0..length);
            let end = length.min(place + self.random.random_range(1..20));
            match self.random.random_range(0..5_u32) {
                0 => self.json[place] = self.random.random(),
                1 => drop(self.json.drain(place..end)),
                2 => self.json.truncate(place),
                3 => self.json.extend_from_within(place..end),
                _ => {
                    let token = self.pick(&[
                        "\"", "\\", "\\u00", "{", "}", "[", "]", ",", ":", "null", "\0", "-", "\u{feff}",
                    ]);
                    self.json.splice(place..place, token.bytes());
                }
            }
        }
    }

    fn garbage(&mut self) {
        self.json.clear();
        for _ in 0..self.random.random_range(0..60_u32) {
            if self.one_in(8) {
                self.json.push(self.random.random());
            } else {
                let token = self.pick(&[
                    "{", "}", "[", "]", "\"", ":", ",", "id", "\"id\":", "\"dob\"", "1", "e", "-", ".", " ",
                    "true", "\\u12",
                ]);
                self.json.extend_from_slice(token.as_bytes());
            }
        }
    }
}

#[test]
fn contract_agrees_with_the_hand_written_parser() {
    let inputs = if std::env::var_os("AFFLUENT_TEST_FULL").is_some() {
        INPUTS_FULL
    } else {
        INPUTS
    };
    let mut generator = Generator {
        random: SmallRng::seed_from_u64(0x5eed),
        json: vec![],
    };
    let mut accepted = 0;
    for _ in 0..inputs {
        match generator.random.random_range(0..20_u32) {
            0 => generator.garbage(),
            1..8 => {
                generator.record();
                generator.mutate();
            }
            _ => generator.record(),
        }
        accepted += usize::from(compare(&generator.json));
    }
    println!("{inputs} inputs, {accepted} of them accepted by the strict parser");
    assert!(
        accepted > inputs / 5 && accepted < inputs * 4 / 5,
        "{accepted} of {inputs} are accepted"
    );
}
