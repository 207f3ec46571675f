//! Generates people. The same random numbers give the same person.

mod login;
mod pattern;
mod record;

use std::borrow::Cow;

use jiff::{Timestamp, tz::Offset};
use rand::{Rng, RngExt};
use serde::Serialize;

use self::pattern::{Owner, fill};
use self::record::{
    Coordinates, FullName, Location, Moment, NationalId, Picture, PostcodeValue, Record, Street, Timezone,
};
use super::nationality::{Name, Nationality, Postcode};
use super::pick::pick;
use super::query::{Gender, Query};
use super::version::Version;

/// Births from 1944 to the end of 2000, in milliseconds.
const BORN: std::ops::Range<i64> = -820_454_400_000..978_307_200_000;
/// Registrations from April 2002 to the end of 2021, in milliseconds.
const REGISTERED: std::ops::Range<i64> = 1_017_619_200_000..1_640_995_200_000;
const YEAR_MS: i64 = 31_556_952_000;

const TIMEZONES: [Timezone; 18] = [
    timezone("-11:00", "Pago Pago, Niue"),
    timezone("-10:00", "Honolulu, Papeete"),
    timezone("-9:00", "Anchorage, Juneau"),
    timezone("-8:00", "Los Angeles, Vancouver, Tijuana"),
    timezone("-6:00", "Chicago (US & Canada), Guatemala"),
    timezone("-5:00", "New York (US & Canada), Lima, Kingston"),
    timezone("-3:30", "St. John's"),
    timezone("-3:00", "São Paulo, Montevideo"),
    timezone("-1:00", "Ponta Delgada, Praia"),
    timezone("0:00", "Dublin, Accra, Reykjavík"),
    timezone("+1:00", "Berlin, Lagos, Rome"),
    timezone("+3:30", "Isfahan, Mashhad"),
    timezone("+4:30", "Herat, Kandahar"),
    timezone("+5:30", "Colombo, Delhi"),
    timezone("+5:45", "Pokhara"),
    timezone("+8:00", "Manila, Taipei, Perth"),
    timezone("+9:30", "Alice Springs"),
    timezone("+11:00", "Nouméa, Honiara"),
];

const fn timezone(offset: &'static str, description: &'static str) -> Timezone {
    Timezone { offset, description }
}

/// Generates a person of this nationality, and of the query's gender or else a random one. Ages are as of `today`.
pub(crate) fn draw<'a, R: Rng>(
    rng: &mut R,
    nationality: &'a Nationality,
    query: &'a Query,
    version: Version,
    today: Timestamp,
) -> impl Serialize + use<'a, R> {
    let gender = query.gender.unwrap_or_else(|| {
        if rng.random() {
            Gender::Male
        } else {
            Gender::Female
        }
    });
    let born = instant(rng, BORN);
    let owner = Owner {
        born: Offset::UTC.to_datetime(born).date(),
        gender,
    };
    let first = pick(rng, gender.choose(&nationality.male, &nationality.female));
    let last = pick(rng, &nationality.last);
    let rule = nationality.id.as_ref();
    Record {
        selected: &query.fields,
        gender: gender.choose("male", "female"),
        name: FullName {
            title: title(rng, nationality, gender, version),
            first: &first.written,
            last: &last.written,
        },
        location: location(rng, nationality, &owner, version),
        email: email(first, last, version),
        login: login::draw(rng),
        dob: moment(born, version, today),
        registered: moment(instant(rng, REGISTERED), version, today),
        phone: fill(&nationality.phone, rng, &owner),
        cell: fill(&nationality.cell, rng, &owner),
        id: NationalId {
            name: rule.map_or("", |rule| rule.name.as_str()),
            value: rule.map(|rule| fill(&rule.pattern, rng, &owner)),
        },
        picture: picture(rng.random_range(0..100), gender),
        nat: &nationality.code,
    }
}

fn title<'a>(
    rng: &mut impl Rng,
    nationality: &'a Nationality,
    gender: Gender,
    version: Version,
) -> Cow<'a, str> {
    let titles = &nationality.titles;
    let title = pick(rng, gender.choose(&titles.male, &titles.female));
    if version < Version::V1_3 {
        title.to_lowercase().into()
    } else {
        title.into()
    }
}

fn location<'a>(
    rng: &mut impl Rng,
    nationality: &'a Nationality,
    owner: &Owner,
    version: Version,
) -> Location<'a> {
    let number = rng.random_range(1..10_000);
    let name = pick(rng, &nationality.street).as_str();
    let single_line = version < Version::V1_3;
    Location {
        street: if single_line {
            Street::Line(format!("{number} {name}"))
        } else {
            Street::Parts { number, name }
        },
        city: pick(rng, &nationality.city).as_str(),
        state: pick(rng, &nationality.state).as_str(),
        country: (!single_line).then_some(&nationality.country),
        postcode: match &nationality.postcode {
            Postcode::Integer(lowest, highest) => {
                PostcodeValue::Integer(rng.random_range(*lowest..=*highest))
            }
            Postcode::Text(pattern) => PostcodeValue::Text(fill(pattern, rng, owner)),
        },
        coordinates: Coordinates {
            latitude: degrees(rng, 90),
            longitude: degrees(rng, 180),
        },
        timezone: *pick(rng, &TIMEZONES),
    }
}

fn degrees(rng: &mut impl Rng, max: u32) -> String {
    let sign = if rng.random() { "-" } else { "" };
    format!(
        "{sign}{}.{:04}",
        rng.random_range(0..max),
        rng.random_range(0..10_000)
    )
}

fn email(first: &Name, last: &Name, version: Version) -> String {
    match version {
        Version::V1_2 => format!("{}.{}@example.com", first.unfolded, last.unfolded),
        Version::V1_3 | Version::V1_4 => format!("{}.{}@example.com", first.folded, last.folded),
    }
}

fn instant(rng: &mut impl Rng, range: std::ops::Range<i64>) -> Timestamp {
    Timestamp::from_millisecond(rng.random_range(range)).expect("the ranges lie within jiff's")
}

fn moment(at: Timestamp, version: Version, today: Timestamp) -> Moment {
    Moment {
        date: if version < Version::V1_3 {
            format!("{at:.0}")
        } else {
            format!("{at:.3}")
        },
        age: (today.as_millisecond() - at.as_millisecond()) / YEAR_MS,
    }
}

fn picture(number: u32, gender: Gender) -> Picture {
    let folder = gender.choose("men", "women");
    let url = |size| format!("https://randomuser.me/api/portraits/{size}{folder}/{number}.jpg");
    Picture {
        large: url(""),
        medium: url("med/"),
        thumbnail: url("thumb/"),
    }
}
