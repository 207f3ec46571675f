//! The JSON shape of one user, in the API's own order of fields.

use std::borrow::Cow;

use serde::Serialize;

/// One user. A field that was not asked for is `None` and absent from the reply.
#[derive(Serialize)]
pub(super) struct Record<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) gender: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<FullName<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) location: Option<Location<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) email: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) login: Option<Login>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) dob: Option<Moment>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) registered: Option<Moment>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) phone: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cell: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) id: Option<NationalId<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) picture: Option<Picture>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) nat: Option<&'a str>,
}

impl Record<'_> {
    /// Takes out what was not asked for.
    pub(super) fn keep(&mut self, fields: &Fields) {
        fields.clear(0, &mut self.gender);
        fields.clear(1, &mut self.name);
        fields.clear(2, &mut self.location);
        fields.clear(3, &mut self.email);
        fields.clear(4, &mut self.login);
        fields.clear(5, &mut self.dob);
        fields.clear(6, &mut self.registered);
        fields.clear(7, &mut self.phone);
        fields.clear(8, &mut self.cell);
        fields.clear(9, &mut self.id);
        fields.clear(10, &mut self.picture);
        fields.clear(11, &mut self.nat);
    }
}

const FIELDS: [&str; 12] = [
    "gender",
    "name",
    "location",
    "email",
    "login",
    "dob",
    "registered",
    "phone",
    "cell",
    "id",
    "picture",
    "nat",
];

/// The fields asked for by `inc` and `exc`, in the order of [`FIELDS`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Fields([bool; FIELDS.len()]);

impl Fields {
    /// A field is in when `inc` is absent or names it, and `exc` does not. Unknown names mean nothing.
    pub(super) fn chosen(inc: Option<&str>, exc: Option<&str>) -> Self {
        let named = |list: &str, field: &str| list.split(',').any(|name| name.trim() == field);
        Self(FIELDS.map(|field| {
            inc.is_none_or(|list| list.is_empty() || named(list, field))
                && !exc.is_some_and(|list| named(list, field))
        }))
    }

    fn clear<T>(&self, place: usize, field: &mut Option<T>) {
        if !self.0[place] {
            *field = None;
        }
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
