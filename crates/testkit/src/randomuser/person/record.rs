//! The JSON shape of a user, with the fields in the real API's order.

use std::borrow::Cow;

use serde::{Serialize, Serializer, ser::SerializeMap as _};

use crate::randomuser::query::Fields;

/// A user. Only the `selected` fields are serialized.
pub(super) struct Record<'a> {
    pub(super) selected: &'a Fields,
    pub(super) gender: &'static str,
    pub(super) name: FullName<'a>,
    pub(super) location: Location<'a>,
    pub(super) email: String,
    pub(super) login: Login,
    pub(super) dob: Moment,
    pub(super) registered: Moment,
    pub(super) phone: String,
    pub(super) cell: String,
    pub(super) id: NationalId<'a>,
    pub(super) picture: Picture,
    pub(super) nat: &'a str,
}

impl Serialize for Record<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        macro_rules! entries {
            ($($field:ident)*) => { $(
                if self.selected.contains(stringify!($field)) {
                    map.serialize_entry(stringify!($field), &self.$field)?;
                }
            )* };
        }
        entries!(gender name location email login dob registered phone cell id picture nat);
        map.end()
    }
}

#[derive(Serialize)]
pub(super) struct FullName<'a> {
    pub(super) title: Cow<'a, str>,
    pub(super) first: &'a str,
    pub(super) last: &'a str,
}

#[derive(Serialize)]
pub(super) struct Location<'a> {
    pub(super) street: Street<'a>,
    pub(super) city: &'a str,
    pub(super) state: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) country: Option<&'a str>,
    pub(super) postcode: PostcodeValue,
    pub(super) coordinates: Coordinates,
    pub(super) timezone: Timezone,
}

#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum Street<'a> {
    Parts { number: u32, name: &'a str },
    Line(String),
}

#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum PostcodeValue {
    Integer(u32),
    Text(String),
}

#[derive(Serialize)]
pub(super) struct Coordinates {
    pub(super) latitude: String,
    pub(super) longitude: String,
}

#[derive(Clone, Copy, Serialize)]
pub(super) struct Timezone {
    pub(super) offset: &'static str,
    pub(super) description: &'static str,
}

#[derive(Serialize)]
pub(super) struct Login {
    pub(super) uuid: String,
    pub(super) username: String,
    pub(super) password: String,
    pub(super) salt: String,
    pub(super) md5: String,
    pub(super) sha1: String,
    pub(super) sha256: String,
}

#[derive(Serialize)]
pub(super) struct Moment {
    pub(super) date: String,
    pub(super) age: i64,
}

#[derive(Serialize)]
pub(super) struct NationalId<'a> {
    pub(super) name: &'a str,
    pub(super) value: Option<String>,
}

#[derive(Serialize)]
pub(super) struct Picture {
    pub(super) large: String,
    pub(super) medium: String,
    pub(super) thumbnail: String,
}
