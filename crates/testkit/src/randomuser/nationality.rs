//! Names, places and formats of each nationality, from `nationalities.json`. Does not generate people.

use serde::Deserialize;
use serde_json::Value;

use crate::randomuser::version::Version;

const TABLE: &str = include_str!("nationalities.json");

/// The nationalities of each version.
#[derive(Debug)]
pub(crate) struct Nationalities {
    modern: Vec<Nationality>,
    before_1_4: Vec<Nationality>,
}

impl Nationalities {
    pub(crate) fn load() -> Self {
        let entries: Vec<Value> = serde_json::from_str(TABLE).expect("the embedded table is JSON");
        Self {
            before_1_4: entries
                .iter()
                .filter(|entry| entry.get("since").is_none())
                .map(as_before_1_4)
                .collect(),
            modern: entries.into_iter().map(parse).collect(),
        }
    }

    pub(crate) fn of(&self, version: Version) -> &[Nationality] {
        if version < Version::V1_4 {
            &self.before_1_4
        } else {
            &self.modern
        }
    }
}

/// Parses an entry with its `before_1_4` members instead of the modern ones.
fn as_before_1_4(entry: &Value) -> Nationality {
    let mut entry = entry.clone();
    if let Value::Object(older) = entry["before_1_4"].take() {
        for (member, value) in older {
            entry[member] = value;
        }
    }
    parse(entry)
}

fn parse(entry: Value) -> Nationality {
    serde_json::from_value(entry).expect("every entry of the embedded table is a nationality")
}

/// A nationality. Patterns are those of [`super::person`].
#[derive(Debug, Deserialize)]
pub(crate) struct Nationality {
    pub(crate) code: String,
    pub(crate) country: String,
    #[serde(default)]
    pub(crate) titles: Titles,
    pub(crate) male: Vec<Name>,
    pub(crate) female: Vec<Name>,
    pub(crate) last: Vec<Name>,
    pub(crate) street: Vec<String>,
    pub(crate) city: Vec<String>,
    pub(crate) state: Vec<String>,
    pub(crate) postcode: Postcode,
    pub(crate) phone: String,
    pub(crate) cell: String,
    pub(crate) id: Option<IdRule>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct Titles {
    pub(crate) male: Vec<String>,
    pub(crate) female: Vec<String>,
}

impl Default for Titles {
    fn default() -> Self {
        Self {
            male: vec!["Mr".into()],
            female: ["Ms", "Mrs", "Miss"].map(String::from).into(),
        }
    }
}

/// A range of numbers, or a pattern of text.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Postcode {
    Integer(u32, u32),
    Text(String),
}

/// The national id: `TFN`, `CPF` and so on.
#[derive(Debug, Deserialize)]
pub(crate) struct IdRule {
    pub(crate) name: String,
    pub(crate) pattern: String,
}

/// A name and its two forms in e-mail addresses.
#[derive(Debug, Deserialize)]
#[serde(from = "String")]
pub(crate) struct Name {
    pub(crate) written: String,
    /// Folded to ASCII, from 1.3 on.
    pub(crate) folded: String,
    /// In lower case without spaces, before 1.3.
    pub(crate) unfolded: String,
}

impl From<String> for Name {
    fn from(written: String) -> Self {
        let folded = deunicode::deunicode(&written).to_lowercase();
        Self {
            folded: folded
                .chars()
                .filter(|c| c.is_ascii_alphanumeric() || *c == '-')
                .collect(),
            unfolded: written.to_lowercase().replace(' ', ""),
            written,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_1_4_has_21_nationalities_and_older_ones_17() {
        let table = Nationalities::load();
        assert_eq!(table.of(Version::V1_4).len(), 21);
        assert_eq!(table.of(Version::V1_3).len(), 17);
        assert!(
            table
                .of(Version::V1_2)
                .iter()
                .all(|nationality| nationality.code != "UA")
        );
    }

    #[test]
    fn every_name_has_a_form_for_e_mail_addresses() {
        let table = Nationalities::load();
        for nationality in table.of(Version::V1_4) {
            for name in nationality
                .male
                .iter()
                .chain(&nationality.female)
                .chain(&nationality.last)
            {
                assert!(!name.folded.is_empty() && name.folded.is_ascii(), "{name:?}");
            }
        }
    }

    #[test]
    fn entry_before_1_4_replaces_the_modern_one() {
        let table = Nationalities::load();
        let of = |version| {
            table
                .of(version)
                .iter()
                .find(|n| n.code == "BR")
                .unwrap()
                .id
                .is_some()
        };
        assert!(of(Version::V1_4));
        assert!(!of(Version::V1_3));
    }
}
