//! The columns that a table needs, and how an existing table differs. Pure.

use std::collections::BTreeMap;
use std::fmt;

use model::{Contract, CqlType, Field, Presence, Scalar};

use crate::cassandra::statements::quoted;
use crate::pipeline::row::{INGESTED_AT, TableShape};

/// A required column.
#[derive(Clone, Debug)]
pub(super) struct RequiredColumn {
    name: String,
    cql: String,
    role: ColumnRole,
    /// An existing `text` column fits, too.
    accepts_text: bool,
    addition: Addition,
}

/// What adding a column does to the existing rows, whose value is null.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Addition {
    /// The column may be null.
    Valid,
    /// The column is a list or a map: a record without it is empty, and not null. Only a replay writes that.
    NeedsReplay,
    /// The field is required.
    Refused,
}

/// The role of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ColumnRole {
    /// Of the partition key, at this position.
    PartitionKey(usize),
    /// Of the clustering columns, at this position and ascending.
    Clustering(usize),
    /// Of no key.
    Regular,
    /// Of no key, with one value for all rows of a partition.
    Static,
}

/// A column of `system_schema.columns`.
#[derive(Clone, Debug)]
pub(super) struct ExistingColumn {
    pub(super) cql: String,
    pub(super) kind: String,
    pub(super) position: i32,
    pub(super) clustering_order: String,
}

/// The existing columns by name.
pub(super) type ExistingColumns = BTreeMap<String, ExistingColumn>;

/// A difference of one column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Difference {
    /// A column that is missing.
    Missing {
        /// Its name.
        column: String,
        /// The statement that adds it.
        statement: String,
        /// What that does to the existing rows.
        addition: Addition,
    },
    /// A difference that no statement can fix, as a text.
    Incompatible(String),
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing {
                column, statement, ..
            } => write!(f, "column {column} is missing: {statement}"),
            Self::Incompatible(text) => f.write_str(text),
        }
    }
}

impl RequiredColumn {
    pub(super) fn new(name: &str, cql: &str, role: ColumnRole) -> Self {
        Self {
            name: name.to_owned(),
            cql: cql.to_owned(),
            role,
            accepts_text: false,
            addition: Addition::Valid,
        }
    }

    fn of_field(field: &Field, role: ColumnRole) -> Self {
        let is_single = matches!(field.presence(), Presence::Required | Presence::Optional);
        Self {
            accepts_text: is_single && *field.scalar() == Scalar::Timestamp,
            addition: match field.presence() {
                Presence::Required => Addition::Refused,
                Presence::Optional => Addition::Valid,
                Presence::List | Presence::Map => Addition::NeedsReplay,
            },
            ..Self::new(field.name(), &field.cql().to_string(), role)
        }
    }

    /// The column in a `CREATE TABLE` or `ALTER TABLE`.
    pub(super) fn definition(&self) -> String {
        let role = if self.role == ColumnRole::Static {
            " static"
        } else {
            ""
        };
        format!("{} {}{role}", quoted(&self.name), self.cql)
    }
}

/// The columns of a contract's table.
pub(super) fn required(contract: &Contract) -> Vec<RequiredColumn> {
    let fields = contract.fields().iter().enumerate().map(|(slot, field)| {
        let clustering = contract.clustering().iter().position(|it| *it == slot);
        let role = match clustering {
            _ if slot == contract.key() => ColumnRole::PartitionKey(0),
            Some(position) => ColumnRole::Clustering(position),
            None => ColumnRole::Regular,
        };
        RequiredColumn::of_field(field, role)
    });
    let ingested_at = RequiredColumn::new(INGESTED_AT, &CqlType::Timestamp.to_string(), ColumnRole::Regular);
    fields.chain([ingested_at]).collect()
}

/// The `PRIMARY KEY` of a contract's table.
pub(super) fn primary_key(contract: &Contract) -> String {
    let mut names = contract
        .primary_key()
        .map(|slot| quoted(contract.fields()[slot].name()));
    let key = names.next().unwrap_or_default();
    let columns: Vec<_> = std::iter::once(format!("({key})")).chain(names).collect();
    format!("PRIMARY KEY ({})", columns.join(", "))
}

/// The shape of a contract's table that has no differences.
pub(super) fn shape(contract: &Contract, found: &ExistingColumns) -> TableShape {
    let fields = contract.fields().iter().enumerate();
    let text_instants = fields.filter(|(_, field)| {
        let is_text = found.get(field.name()).is_some_and(|column| column.cql == "text");
        *field.scalar() == Scalar::Timestamp && is_text
    });
    TableShape::with_text_instants(text_instants.map(|(slot, _)| slot))
}

/// Returns the differences of a table. Other columns may exist, but not in the primary key.
pub(super) fn differences(
    table: &str,
    required: &[RequiredColumn],
    found: &ExistingColumns,
) -> Vec<Difference> {
    let of_required = required
        .iter()
        .filter_map(|required| difference(table, required, found.get(&required.name)));
    let unexpected = found.iter().filter(|(name, found)| {
        !matches!(found.role(), Some(ColumnRole::Regular | ColumnRole::Static))
            && !required.iter().any(|required| required.name == **name)
    });
    let unexpected = unexpected.map(|(name, found)| {
        Difference::Incompatible(format!(
            "column {name} is part of the primary key ({}): recreate the table with another primary key",
            found.kind
        ))
    });
    of_required.chain(unexpected).collect()
}

fn difference(table: &str, required: &RequiredColumn, found: Option<&ExistingColumn>) -> Option<Difference> {
    let RequiredColumn {
        name,
        cql,
        role,
        accepts_text,
        addition,
    } = required;
    let text = match found {
        None if matches!(role, ColumnRole::Regular | ColumnRole::Static) => {
            return Some(Difference::Missing {
                column: name.clone(),
                statement: format!("ALTER TABLE {table} ADD {}", required.definition()),
                addition: *addition,
            });
        }
        None => format!(
            "column {name} is missing from the primary key: recreate the table with another primary key"
        ),
        Some(found) if found.role() != Some(*role) => format!(
            "column {name} is a {} column, expected a {role} column: recreate the table with another primary key",
            found.description()
        ),
        Some(found) if found.cql != *cql && !(*accepts_text && found.cql == "text") => format!(
            "column {name} has type {}, expected {cql}: recreate the table, because Cassandra can't change the type of a \
             column",
            found.cql
        ),
        Some(_) => return None,
    };
    Some(Difference::Incompatible(text))
}

impl ExistingColumn {
    /// The role, unless no contract has it.
    fn role(&self) -> Option<ColumnRole> {
        let position = usize::try_from(self.position);
        match (self.kind.as_str(), position) {
            ("partition_key", Ok(position)) => Some(ColumnRole::PartitionKey(position)),
            ("clustering", Ok(position)) if self.clustering_order == "asc" => {
                Some(ColumnRole::Clustering(position))
            }
            ("regular", _) => Some(ColumnRole::Regular),
            ("static", _) => Some(ColumnRole::Static),
            _ => None,
        }
    }

    fn description(&self) -> String {
        match (self.role(), self.kind.as_str()) {
            (Some(role), _) => role.to_string(),
            (None, "clustering") => {
                format!(
                    "clustering (position {}, {})",
                    self.position, self.clustering_order
                )
            }
            (None, kind) => kind.to_owned(),
        }
    }
}

impl fmt::Display for ColumnRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PartitionKey(position) => write!(f, "partition_key (position {position})"),
            Self::Clustering(position) => write!(f, "clustering (position {position}, asc)"),
            Self::Regular => f.write_str("regular"),
            Self::Static => f.write_str("static"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::row::tests::orders;

    const TABLE: &str = "ks.created_orders";

    /// The columns of a new table.
    fn created(contract: &Contract) -> ExistingColumns {
        let columns = required(contract).into_iter().map(|column| {
            let (kind, position, order) = match column.role {
                ColumnRole::PartitionKey(position) => ("partition_key", position, "none"),
                ColumnRole::Clustering(position) => ("clustering", position, "asc"),
                ColumnRole::Regular => ("regular", 0, "none"),
                ColumnRole::Static => ("static", 0, "none"),
            };
            let position = match column.role {
                ColumnRole::Regular | ColumnRole::Static => -1,
                _ => i32::try_from(position).unwrap(),
            };
            let found = ExistingColumn {
                cql: column.cql,
                kind: kind.to_owned(),
                position,
                clustering_order: order.to_owned(),
            };
            (column.name, found)
        });
        columns.collect()
    }

    fn of_orders(found: &ExistingColumns) -> Vec<String> {
        let differences = differences(TABLE, &required(&orders()), found);
        differences.iter().map(ToString::to_string).collect()
    }

    fn changed(name: &str, change: impl FnOnce(&mut ExistingColumn)) -> Vec<String> {
        let mut found = created(&orders());
        change(found.get_mut(name).unwrap());
        of_orders(&found)
    }

    #[test]
    fn new_table_has_no_differences() {
        for contract in [orders(), Contract::user()] {
            let found = created(&contract);
            assert_eq!(differences(TABLE, &required(&contract), &found), []);
            assert_eq!(shape(&contract, &found), TableShape::default());
        }
    }

    #[test]
    fn names_are_quoted_and_types_are_those_of_the_fields() {
        let definitions: Vec<_> = required(&orders())
            .iter()
            .map(RequiredColumn::definition)
            .collect();
        assert_eq!(
            definitions,
            [
                r#""note" text"#,
                r#""customer_id" bigint"#,
                r#""order_id" uuid"#,
                r#""placed_at" timestamp"#,
                r#""status" text"#,
                r#""paid" boolean"#,
                r#""items" int"#,
                r#""weight" bigint"#,
                r#""discount" float"#,
                r#""total" double"#,
                r#""token" blob"#,
                r#""tags" frozen<list<text>>"#,
                r#""quantities" frozen<map<text, int>>"#,
                r#""shipped_at" timestamp"#,
                r#""coupon" text"#,
                r#""ingested_at" timestamp"#,
            ]
        );
        assert_eq!(
            primary_key(&orders()),
            r#"PRIMARY KEY (("customer_id"), "placed_at", "order_id")"#
        );
        assert_eq!(primary_key(&Contract::user()), r#"PRIMARY KEY (("id"))"#);
    }

    #[test]
    fn missing_column_comes_with_its_statement() {
        let mut found = created(&orders());
        for name in ["tags", "total"] {
            found.remove(name);
        }
        let missing = |column: &str, definition: &str, addition| Difference::Missing {
            column: column.to_owned(),
            statement: format!("ALTER TABLE {TABLE} ADD {definition}"),
            addition,
        };
        for name in ["coupon", "ingested_at"] {
            found.remove(name);
        }
        assert_eq!(
            differences(TABLE, &required(&orders()), &found),
            [
                missing("total", r#""total" double"#, Addition::Refused),
                missing("tags", r#""tags" frozen<list<text>>"#, Addition::NeedsReplay),
                missing("coupon", r#""coupon" text"#, Addition::Valid),
                missing("ingested_at", r#""ingested_at" timestamp"#, Addition::Valid),
            ]
        );
        found.remove("order_id");
        assert_eq!(
            of_orders(&found)[0],
            "column order_id is missing from the primary key: recreate the table with another primary key"
        );
    }

    #[test]
    fn only_single_instants_accept_a_text_column() {
        let contract = orders();
        let mut found = created(&contract);
        for name in ["placed_at", "shipped_at"] {
            found.get_mut(name).unwrap().cql = "text".to_owned();
        }
        assert_eq!(of_orders(&found), Vec::<String>::new());
        let slots = ["placed_at", "shipped_at"].map(|name| contract.slot(name).unwrap());
        assert_eq!(shape(&contract, &found), TableShape::with_text_instants(slots));
        for (name, cql) in [
            ("ingested_at", "text"),
            ("items", "text"),
            ("tags", "list<text>"),
            ("customer_id", "int"),
        ] {
            let found = changed(name, |column| column.cql = cql.to_owned());
            assert_eq!(found.len(), 1, "{name}");
            assert!(
                found[0].starts_with(&format!("column {name} has type {cql}, expected ")),
                "{found:?}"
            );
        }
    }

    #[test]
    fn keys_are_compared_with_position_and_order() {
        let descending = changed("order_id", |column| column.clustering_order = "desc".to_owned());
        assert_eq!(
            descending,
            [
                "column order_id is a clustering (position 1, desc) column, expected a clustering (position 1, asc) column: \
                 recreate the table with another primary key"
            ]
        );
        for (name, kind, position) in [
            ("order_id", "clustering", 2),
            ("order_id", "regular", -1),
            ("customer_id", "clustering", 0),
            ("note", "partition_key", 1),
            ("note", "static", -1),
        ] {
            let found = changed(name, |column| {
                column.kind = kind.to_owned();
                column.position = position;
                column.clustering_order = "asc".to_owned();
            });
            assert_eq!(found.len(), 1, "{name} {kind} {position}: {found:?}");
        }
    }

    #[test]
    fn other_columns_are_accepted_outside_the_primary_key() {
        for (kind, accepted) in [
            ("regular", true),
            ("static", true),
            ("clustering", false),
            ("partition_key", false),
        ] {
            let mut found = created(&orders());
            let extra = ExistingColumn {
                cql: "int".to_owned(),
                kind: kind.to_owned(),
                position: 2,
                clustering_order: "desc".to_owned(),
            };
            found.insert("extra".to_owned(), extra);
            assert_eq!(of_orders(&found).is_empty(), accepted, "{kind}");
        }
    }
}
