//! The contract: the fields of a record, their types and rules, as a `.proto` file says them.

mod compile;
mod cql;
mod error;
mod field;
mod json_schema;

use sha2::{Digest as _, Sha256};

pub use cql::CqlType;
pub use error::ContractError;
pub use field::{Field, Presence, Scalar};

/// The fields of a record in the order of their numbers, its key, and its resource. Compiled once, at the start.
///
/// A slot is a field's index in [`Contract::fields`].
#[derive(Debug)]
pub struct Contract {
    name: Box<str>,
    resource: Box<str>,
    fields: Box<[Field]>,
    key: usize,
    clustering: Box<[usize]>,
    /// The slots in the order of the fields' names.
    by_name: Box<[usize]>,
    hash: Box<str>,
}

impl Contract {
    pub(crate) fn new(
        name: &str,
        resource: &str,
        fields: Vec<Field>,
        key: usize,
        clustering: Vec<usize>,
    ) -> Self {
        let mut by_name: Box<[usize]> = (0..fields.len()).collect();
        by_name.sort_unstable_by(|left, right| fields[*left].name().cmp(fields[*right].name()));
        let mut contract = Self {
            name: name.into(),
            resource: resource.into(),
            fields: fields.into(),
            key,
            clustering: clustering.into(),
            by_name,
            hash: Box::default(),
        };
        contract.hash = contract.digest().into();
        contract
    }

    /// The full name of the message, the value of the Kafka header `schema`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The name of the message without its package.
    #[must_use]
    pub fn title(&self) -> &str {
        self.name.rsplit_once('.').map_or(&*self.name, |(_, title)| title)
    }

    /// The resource's name in URLs.
    #[must_use]
    pub fn resource(&self) -> &str {
        &self.resource
    }

    /// The topic of the records, unless it is configured.
    #[must_use]
    pub fn default_topic(&self) -> String {
        format!("{}_created", self.resource)
    }

    /// The table of the rows, unless it is configured. A resource may have hyphens, which a CQL name may not.
    #[must_use]
    pub fn default_table(&self) -> String {
        format!("created_{}", self.resource.replace('-', "_"))
    }

    /// 16 hexadecimal digits that differ for contracts with different fields, types, rules or keys; the value of the
    /// Kafka header `schema-hash`.
    #[must_use]
    pub fn hash(&self) -> &str {
        &self.hash
    }

    /// The fields in the order of their numbers, which is the order of the canonical encoding.
    #[must_use]
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// The slot of the field with that name, compared by case, if there is one.
    #[must_use]
    pub fn slot(&self, name: &str) -> Option<usize> {
        let found = self
            .by_name
            .binary_search_by(|slot| self.fields[*slot].name().cmp(name));
        found.ok().map(|index| self.by_name[index])
    }

    /// The slot of the key: its text is the key of the Kafka record, and it is the table's partition key.
    #[must_use]
    pub fn key(&self) -> usize {
        self.key
    }

    /// The slots of the clustering columns, in their order.
    #[must_use]
    pub fn clustering(&self) -> &[usize] {
        &self.clustering
    }

    /// The slots of the primary key: the key, then the clustering columns.
    pub fn primary_key(&self) -> impl Iterator<Item = usize> + '_ {
        std::iter::once(self.key).chain(self.clustering.iter().copied())
    }

    fn digest(&self) -> String {
        let mut hash = Sha256::new();
        let mut line = |text: String| {
            hash.update(text);
            hash.update(b"\n");
        };
        line(self.name.to_string());
        for slot in self.primary_key() {
            line(format!("key {}", self.fields[slot].name()));
        }
        for field in &self.fields {
            line(field.signature());
        }
        hash.finalize()[..8]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }
}
