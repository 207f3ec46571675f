//! Patterns of phone numbers, postcodes and national ids.

use jiff::civil::Date;
use rand::RngExt;

use crate::randomuser::query::Gender;

/// The owner's data that a national id may contain.
pub(crate) struct Owner {
    pub(crate) born: Date,
    pub(crate) gender: Gender,
}

/// Fills one random alternative of a pattern, in which `|` separates alternatives. `#` is a digit, `@` a capital letter,
/// `%` the birthday as ddmmyy, `~` as yymm, `^` the digit of the sex (1 male, 2 female). Other characters are literal.
pub(crate) fn fill(pattern: &str, rng: &mut impl RngExt, owner: &Owner) -> String {
    let mut text = String::with_capacity(pattern.len() + 8);
    let (day, month, year) = (owner.born.day(), owner.born.month(), owner.born.year() % 100);
    let alternatives = pattern.split('|').count();
    let chosen = if alternatives > 1 {
        rng.random_range(0..alternatives)
    } else {
        0
    };
    for symbol in pattern.split('|').nth(chosen).unwrap_or_default().chars() {
        match symbol {
            '#' => text.push(char::from(b'0' + rng.random_range(0..10u8))),
            '@' => text.push(char::from(b'A' + rng.random_range(0..26u8))),
            '%' => text.push_str(&format!("{day:02}{month:02}{year:02}")),
            '~' => text.push_str(&format!("{year:02}{month:02}")),
            '^' => text.push(owner.gender.choose('1', '2')),
            other => text.push(other),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use jiff::civil::date;
    use rand::{SeedableRng, rngs::Xoshiro256PlusPlus};

    use super::*;

    #[test]
    fn literals_stay_and_placeholders_are_filled() {
        let owner = Owner {
            born: date(1977, 3, 9),
            gender: Gender::Female,
        };
        let text = fill("^~#-%@(x)", &mut Xoshiro256PlusPlus::seed_from_u64(1), &owner);
        assert!(text.starts_with("27703") && text.ends_with("(x)"), "{text}");
        assert_eq!(&text[6..13], "-090377");
        assert!(text.as_bytes()[5].is_ascii_digit() && text.as_bytes()[13].is_ascii_uppercase());
    }

    #[test]
    fn every_alternative_is_chosen_eventually() {
        let owner = Owner {
            born: date(1977, 3, 9),
            gender: Gender::Male,
        };
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
        let texts: HashSet<String> = (0..100).map(|_| fill("a|b|c", &mut rng, &owner)).collect();
        assert_eq!(texts.len(), 3);
    }
}
