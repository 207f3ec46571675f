//! The parameters of a request. Invalid ones silently get a default, as at the real API.

use std::collections::HashMap;

use super::nationality::Nationality;

const MAX_RESULTS: usize = 5_000;
const MAX_PAGE: usize = 10_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Gender {
    Male,
    Female,
}

/// A valid query.
#[derive(Debug)]
pub(crate) struct Query {
    /// 1 to 5,000; else 1.
    pub(crate) results: usize,
    /// 1 to 10,000; else 1.
    pub(crate) page: usize,
    pub(crate) seed: Option<String>,
    /// Indexes into the version's list of nationalities; empty for all.
    pub(crate) nationalities: Vec<usize>,
    /// Always `None` with a seed.
    pub(crate) gender: Option<Gender>,
    pub(crate) fields: Fields,
}

impl Gender {
    /// One of two values by gender.
    pub(crate) fn choose<T>(self, male: T, female: T) -> T {
        match self {
            Self::Male => male,
            Self::Female => female,
        }
    }
}

impl Query {
    pub(crate) fn parse(parameters: &HashMap<String, String>, known: &[Nationality]) -> Self {
        let text = |name| parameters.get(name).map(String::as_str);
        let seed = text("seed").filter(|seed| !seed.is_empty()).map(str::to_owned);
        Self {
            results: within(text("results"), MAX_RESULTS),
            page: within(text("page"), MAX_PAGE),
            nationalities: nationalities(text("nat").unwrap_or_default(), known),
            gender: text("gender").and_then(gender).filter(|_| seed.is_none()),
            fields: Fields::new(text("inc"), text("exc")),
            seed,
        }
    }
}

/// The fields selected by the lists `inc` and `exc`, in which unknown names have no effect.
#[derive(Debug)]
pub(crate) struct Fields {
    included: Option<String>,
    excluded: String,
}

impl Fields {
    /// Selects the fields of `inc`, or all without it, except those of `exc`.
    pub(crate) fn new(inc: Option<&str>, exc: Option<&str>) -> Self {
        Self {
            included: inc.filter(|list| !list.is_empty()).map(str::to_owned),
            excluded: exc.unwrap_or_default().to_owned(),
        }
    }

    pub(crate) fn contains(&self, field: &str) -> bool {
        let names = |list: &str| list.split(',').any(|name| name.trim() == field);
        self.included.as_deref().is_none_or(names) && !names(&self.excluded)
    }
}

fn within(text: Option<&str>, max: usize) -> usize {
    text.and_then(|text| text.trim().parse().ok())
        .filter(|number| (1..=max).contains(number))
        .unwrap_or(1)
}

/// One unknown code disables the filter.
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
