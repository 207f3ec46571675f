//! Which pages a run asks for. Pure, and the same for the same seed, so that a run can be repeated.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use uuid::Uuid;

/// The highest page that the API knows; a higher one silently becomes the first again.
const LAST_PAGE: u64 = 10_000;

/// What the API's generator starts from: 1 to 64 letters, digits, `.`, `_` or `-`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Seed(String);

impl Seed {
    /// A seed that was never used: the first 64 bits of a random uuid.
    #[must_use]
    pub fn random() -> Self {
        let mut text = Uuid::new_v4().simple().to_string();
        text.truncate(16);
        Self(text)
    }

    /// The seed that pages go on with when those of this one are used up. The API puts page number behind seed, so
    /// the dot keeps `s` on page 12 and the successor's page 2 apart.
    fn successor(&self, number: u64) -> String {
        if number == 0 {
            self.0.clone()
        } else {
            format!("{}.{number}.", self.0)
        }
    }
}

impl FromStr for Seed {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        if (1..=64).contains(&text.len()) && text.chars().all(allowed) {
            Ok(Self(text.to_owned()))
        } else {
            Err("a seed has 1 to 64 letters, digits, dots, underscores or hyphens")
        }
    }
}

impl fmt::Display for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<'de> Deserialize<'de> for Seed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

/// One page to ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PageRequest {
    /// What the generator starts from.
    pub seed: String,
    /// Counted from 1, at most 10,000.
    pub page: u32,
    /// How many users, 1 to 5,000.
    pub results: u32,
}

/// Some of the pages of a seed, written `FIRST..LAST`; both are counted from 1 and belong to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageRange {
    first: u64,
    last: u64,
}

impl PageRange {
    /// The pages from `first` to `last`, unless that is none.
    #[must_use]
    pub fn new(first: u64, last: u64) -> Option<Self> {
        (1 <= first && first <= last).then_some(Self { first, last })
    }

    /// The first page.
    #[must_use]
    pub fn first(self) -> u64 {
        self.first
    }

    /// The last page.
    #[must_use]
    pub fn last(self) -> u64 {
        self.last
    }
}

impl FromStr for PageRange {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let range = text
            .split_once("..")
            .and_then(|(first, last)| Self::new(first.trim().parse().ok()?, last.trim().parse().ok()?));
        range.ok_or("pages are FIRST..LAST, such as 3..7; 1 is the first")
    }
}

impl Serialize for PageRange {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PageRange {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(de::Error::custom)
    }
}

impl fmt::Display for PageRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", self.first, self.last)
    }
}

/// The pages of one run.
#[derive(Clone, Debug)]
pub struct Plan {
    seed: Seed,
    users: u64,
    page_size: u32,
    only: Option<PageRange>,
}

impl Plan {
    /// Pages of `page_size` (1 or more) that hold `users` together; the last one may be smaller.
    #[must_use]
    pub fn new(seed: Seed, users: u64, page_size: u32) -> Self {
        Self {
            seed,
            users,
            page_size: page_size.max(1),
            only: None,
        }
    }

    /// Only these pages of them.
    #[must_use]
    pub fn only(self, only: Option<PageRange>) -> Self {
        Self { only, ..self }
    }

    /// The seed of the run.
    #[must_use]
    pub fn seed(&self) -> &Seed {
        &self.seed
    }

    /// How many users the pages hold.
    #[must_use]
    pub fn users(&self) -> u64 {
        let size = u64::from(self.page_size);
        let (first, end) = self.indices();
        let before = |index: u64| index.saturating_mul(size).min(self.users);
        before(end) - before(first)
    }

    /// Every page, in order.
    pub fn pages(&self) -> impl Iterator<Item = PageRequest> + '_ {
        let (first, end) = self.indices();
        (first..end).map_while(|index| self.page(index))
    }

    /// The index of the first page and the one behind the last, counted from 0.
    fn indices(&self) -> (u64, u64) {
        let end = self.users.div_ceil(u64::from(self.page_size));
        self.only
            .map_or((0, end), |only| ((only.first - 1).min(end), only.last.min(end)))
    }

    /// The page at `index`, counted from 0.
    fn page(&self, index: u64) -> Option<PageRequest> {
        let before = index.checked_mul(u64::from(self.page_size))?;
        let left = self.users.checked_sub(before).filter(|left| *left > 0)?;
        Some(PageRequest {
            seed: self.seed.successor(index / LAST_PAGE),
            page: u32::try_from(index % LAST_PAGE + 1).expect("a page number is at most 10,000"),
            results: u32::try_from(left).map_or(self.page_size, |left| left.min(self.page_size)),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn plan(users: u64, page_size: u32) -> Plan {
        Plan::new("abc".parse().unwrap(), users, page_size)
    }

    #[test]
    fn the_last_page_holds_the_rest() {
        let pages: Vec<_> = plan(11, 5)
            .pages()
            .map(|page| (page.page, page.results))
            .collect();
        assert_eq!(pages, [(1, 5), (2, 5), (3, 1)]);
        assert_eq!(plan(10, 5).pages().count(), 2);
    }

    #[test]
    fn past_page_10000_another_seed_takes_over() {
        let pages: Vec<_> = plan(20_001, 1).pages().collect();
        assert_eq!((pages[9_999].seed.as_str(), pages[9_999].page), ("abc", 10_000));
        assert_eq!((pages[10_000].seed.as_str(), pages[10_000].page), ("abc.1.", 1));
        assert_eq!((pages[20_000].seed.as_str(), pages[20_000].page), ("abc.2.", 1));
        let generators: HashSet<_> = pages
            .iter()
            .map(|page| format!("{}{}", page.seed, page.page))
            .collect();
        assert_eq!(
            generators.len(),
            pages.len(),
            "no two pages come from the same generator"
        );
    }

    #[test]
    fn some_pages_are_the_same_ones_as_among_all() {
        let all: Vec<_> = plan(11, 5).pages().collect();
        let some = |range: &str| plan(11, 5).only(Some(range.parse().unwrap()));
        assert_eq!(some("2..3").pages().collect::<Vec<_>>(), all[1..]);
        assert_eq!((some("2..3").users(), some("1..2").users()), (6, 10));
        assert_eq!((some("3..9").users(), some("4..9").users()), (1, 0));
        assert_eq!(some("4..9").pages().count(), 0);
        for text in ["", "1", "0..1", "2..1", "a..b", "1..", "-1..2"] {
            assert!(text.parse::<PageRange>().is_err(), "{text}");
        }
        assert_eq!("3..7".parse::<PageRange>().unwrap().to_string(), "3..7");
    }

    #[test]
    fn a_seed_is_short_and_plain() {
        for text in ["", "a b", "ä", "a&results=1", &"x".repeat(65)] {
            assert!(text.parse::<Seed>().is_err(), "{text}");
        }
        assert_eq!(Seed::random().to_string().len(), 16);
        assert_ne!(Seed::random(), Seed::random());
    }

    proptest! {
        #[test]
        fn the_pages_hold_what_was_asked_within_the_api_s_bounds(users in 1_u64..100_000, size in 1_u32..=5_000) {
            let mut sum = 0;
            for page in plan(users, size).pages() {
                prop_assert!((1..=size).contains(&page.results) && (1..=10_000).contains(&page.page));
                sum += u64::from(page.results);
            }
            prop_assert_eq!(sum, users);
        }
    }
}
