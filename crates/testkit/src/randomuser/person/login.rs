//! The login of a person. The hashes are random texts of the right length.

use std::fmt::Write;

use rand::{Rng, RngExt};

use super::record::Login;
use crate::randomuser::pick::pick;

const MOODS: [&str; 16] = [
    "brave", "calm", "clever", "curious", "dusty", "gentle", "jolly", "lucky", "mellow", "nimble", "proud",
    "quiet", "rusty", "shiny", "swift", "tall",
];
const ANIMALS: [&str; 16] = [
    "badger", "beaver", "camel", "falcon", "gecko", "heron", "lemur", "lynx", "magpie", "moose", "otter",
    "pelican", "raven", "salmon", "turtle", "walrus",
];
const WORDS: [&str; 16] = [
    "anchor", "basket", "candle", "dragon1", "ember", "forest", "guitar9", "hammer", "island", "jungle",
    "kettle", "lantern", "marble", "nickel", "1234", "0815",
];
const SALT: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

pub(crate) fn draw(rng: &mut impl Rng) -> Login {
    Login {
        uuid: uuid::Builder::from_random_bytes(rng.random())
            .into_uuid()
            .to_string(),
        username: format!(
            "{}{}{}",
            pick(rng, &MOODS),
            pick(rng, &ANIMALS),
            rng.random_range(100..1_000)
        ),
        password: (*pick(rng, &WORDS)).into(),
        salt: (0..8).map(|_| char::from(*pick(rng, SALT))).collect(),
        md5: hex(rng, 32),
        sha1: hex(rng, 40),
        sha256: hex(rng, 64),
    }
}

/// Random hexadecimal digits; `digits` is a multiple of 8.
fn hex(rng: &mut impl Rng, digits: usize) -> String {
    let mut text = String::with_capacity(digits);
    while text.len() < digits {
        write!(text, "{:08x}", rng.next_u32()).expect("a string takes what is written to it");
    }
    text
}
