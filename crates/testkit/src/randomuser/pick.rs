//! A random choice.

use rand::{Rng, RngExt as _};

pub(crate) fn pick<'a, T>(rng: &mut impl Rng, choices: &'a [T]) -> &'a T {
    &choices[rng.random_range(0..choices.len())]
}
