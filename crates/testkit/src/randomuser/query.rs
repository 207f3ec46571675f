//! The parameters of a request, with the API's habit of correcting what it doesn't like without a word.

use std::collections::HashMap;

use super::{nationality::Nationality, record::Fields};

const MOST_RESULTS: usize = 5_000;
const LAST_PAGE: usize = 10_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Gender {
    Male,
    Female,
}

/// What was asked for, after the corrections.
#[derive(Debug)]
pub(super) struct Query {
    /// 1 to 5,000; anything else has become 1.
    pub(super) results: usize,
    /// 1 to 10,000; anything else has become 1.
    pub(super) page: usize,
    pub(super) seed: Option<String>,
    /// Places in the version's list of nationalities; empty means all of them.
    pub(super) nationalities: Vec<usize>,
    /// Always `None` beside a seed.
    pub(super) gender: Option<Gender>,
    pub(super) fields: Fields,
}

impl Query {
    pub(super) fn parse(parameters: &HashMap<String, String>, known: &[Nationality]) -> Self {
        let text = |name| parameters.get(name).map(String::as_str);
        let seed = text("seed").filter(|seed| !seed.is_empty()).map(str::to_owned);
        Self {
            results: within(text("results"), MOST_RESULTS),
            page: within(text("page"), LAST_PAGE),
            nationalities: nationalities(text("nat").unwrap_or_default(), known),
            gender: text("gender").and_then(gender).filter(|_| seed.is_none()),
            fields: Fields::chosen(text("inc"), text("exc")),
            seed,
        }
    }
}

fn within(text: Option<&str>, most: usize) -> usize {
    text.and_then(|text| text.trim().parse().ok())
        .filter(|number| (1..=most).contains(number))
        .unwrap_or(1)
}

/// One unknown code voids the whole filter.
fn nationalities(list: &str, known: &[Nationality]) -> Vec<usize> {
    list.split(',')
        .map(|code| {
            known
                .iter()
                .position(|nationality| nationality.code.eq_ignore_ascii_case(code.trim()))
        })
        .collect::<Option<Vec<usize>>>()
        .unwrap_or_default()
}

fn gender(text: &str) -> Option<Gender> {
    match text {
        "male" => Some(Gender::Male),
        "female" => Some(Gender::Female),
        _ => None,
    }
}
