//! What people of each nationality are called and where they live, from the table in
//! `nationalities.json`. Chooses nobody: that is `person`'s work.

use serde::Deserialize;
use serde_json::Value;

use super::version::Version;

const TABLE: &str = include_str!("nationalities.json");

/// The nationalities of each version.
#[derive(Debug)]
pub(super) struct Nationalities {
    modern: Vec<Nationality>,
    before_1_4: Vec<Nationality>,
}

impl Nationalities {
    pub(super) fn load() -> Self {
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

    pub(super) fn of(&self, version: Version) -> &[Nationality] {
        if version < Version::V1_4 {
            &self.before_1_4
        } else {
            &self.modern
        }
    }
}

/// An entry with its `before_1_4` members in place of the modern ones.
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

/// One nationality. Patterns are those of [`super::pattern::fill`].
#[derive(Debug, Deserialize)]
pub(super) struct Nationality {
    pub(super) code: String,
    pub(super) country: String,
    #[serde(default)]
    pub(super) titles: Titles,
    pub(super) male: Vec<Name>,
    pub(super) female: Vec<Name>,
    pub(super) last: Vec<Name>,
    pub(super) street: Vec<String>,
    pub(super) city: Vec<String>,
    pub(super) state: Vec<String>,
    pub(super) postcode: Postcode,
    pub(super) phone: String,
    pub(super) cell: String,
    pub(super) id: Option<IdRule>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Titles {
    pub(super) male: Vec<String>,
    pub(super) female: Vec<String>,
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
pub(super) enum Postcode {
    Integer(u32, u32),
    Text(String),
}

/// The national id: `TFN`, `CPF` and so on.
#[derive(Debug, Deserialize)]
pub(super) struct IdRule {
    pub(super) name: String,
    pub(super) pattern: String,
}

/// A name with the two ways in which it enters an e-mail address.
#[derive(Debug, Deserialize)]
#[serde(from = "String")]
pub(super) struct Name {
    pub(super) written: String,
    /// Folded to ASCII, as from 1.3 on.
    pub(super) folded: String,
    /// Only in lower case and without spaces, as before 1.3.
    pub(super) unfolded: String,
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
    fn version_1_4_knows_21_nationalities_and_the_older_ones_17() {
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
    fn every_name_leaves_something_for_an_address() {
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
    fn an_older_entry_takes_the_place_of_the_modern_one() {
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
