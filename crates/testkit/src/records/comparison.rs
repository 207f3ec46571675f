//! Compares topic and table by the contract: the last valid record of a primary key in the log is its row, a tombstone
//! removes all rows of its key, and there are no other rows.

use model::{Contract, Key};

use crate::kafka_client::TopicRecord;
use crate::rows::{INGESTED_AT, RowId, Rows, row};

/// The number of differences that are reported.
const MAX_DIFFERENCES: usize = 10;

/// Returns the rows that the log implies, without [`INGESTED_AT`], which a record may lack.
///
/// All records of a key are in one partition, in order.
pub fn expected(contract: &Contract, log: &[TopicRecord]) -> Rows {
    let mut rows = Rows::new();
    for record in log {
        match (&record.value, &record.key) {
            (Some(value), _) => {
                if let Ok(record) = contract.parse_lenient(value) {
                    rows.insert(RowId::of(&record), row(&record));
                }
            }
            (None, Some(key)) => {
                if let Ok(key) = contract.parse_key(key) {
                    remove(&mut rows, key);
                }
            }
            (None, None) => {}
        }
    }
    rows
}

fn remove(rows: &mut Rows, key: Key) {
    let first = RowId::from(key);
    let of_key = rows.range(first.clone()..).map(|(id, _)| id);
    let ids: Vec<_> = of_key.take_while(|id| id.key == first.key).cloned().collect();
    for id in ids {
        rows.remove(&id);
    }
}

/// Returns at most ten differences between the expected and the actual rows, or none when they agree in every column of
/// the table.
pub fn differences(expected: &Rows, found: &Rows) -> Vec<String> {
    let missing = expected
        .keys()
        .filter(|id| !found.contains_key(*id))
        .map(|id| format!("{id} is missing"));
    let unknown = found
        .keys()
        .filter(|id| !expected.contains_key(*id))
        .map(|id| format!("{id} was never sent"));
    let other = expected.iter().filter_map(|(id, row)| {
        let found = found.get(id)?;
        let column = row
            .keys()
            .chain(found.keys())
            .find(|column| **column != INGESTED_AT && row.get(*column) != found.get(*column))?;
        Some(format!("{id} differs in {column}"))
    });
    missing
        .chain(unknown)
        .chain(other)
        .take(MAX_DIFFERENCES)
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::people::Person;

    fn expected(log: &[TopicRecord]) -> Rows {
        super::expected(&Contract::user(), log)
    }

    fn record(id: u8, name: &str) -> Vec<u8> {
        let mut person = Person::new(0, 0);
        person.id = format!("00000000-0000-4000-8000-0000000000{id:02}")
            .parse()
            .unwrap();
        name.clone_into(&mut person.texts[0]);
        person.json()
    }

    fn logged(offset: i64, id: u8, value: Option<Vec<u8>>) -> TopicRecord {
        let key = format!("00000000-0000-4000-8000-0000000000{id:02}").into_bytes();
        TopicRecord {
            partition: 0,
            offset,
            timestamp: None,
            log_append_time: true,
            key: Some(key),
            value,
            headers: BTreeMap::new(),
        }
    }

    #[test]
    fn last_record_of_a_user_wins_and_tombstone_removes_it() {
        let log = [
            logged(0, 1, Some(record(1, "old"))),
            logged(1, 2, Some(record(2, "gone"))),
            logged(2, 1, Some(record(1, "new"))),
            logged(3, 2, None),
            logged(4, 3, Some(b"garbage".to_vec())),
        ];
        let expected = expected(&log);
        assert_eq!(expected.len(), 1);
        assert_eq!(expected.values().next().unwrap()["first_name"], b"new");
    }

    #[test]
    fn missing_unknown_and_differing_rows_are_reported() {
        let one = expected(&[
            logged(0, 1, Some(record(1, "a"))),
            logged(1, 2, Some(record(2, "a"))),
        ]);
        let other = expected(&[
            logged(0, 1, Some(record(1, "b"))),
            logged(1, 3, Some(record(3, "a"))),
        ]);
        let found = differences(&one, &other);
        assert_eq!(found.len(), 3);
        assert!(found[0].ends_with("02 is missing") && found[1].ends_with("03 was never sent"));
        assert!(found[2].ends_with("01 differs in first_name"));
        assert!(differences(&one, &one).is_empty());
    }

    #[test]
    fn stale_value_of_a_removed_column_is_reported() {
        let dated = record(1, "a");
        let mut undated: serde_json::Value = serde_json::from_slice(&dated).unwrap();
        undated
            .as_object_mut()
            .unwrap()
            .remove("registered_date")
            .unwrap();
        let log = [
            logged(0, 1, Some(dated)),
            logged(1, 1, Some(undated.to_string().into_bytes())),
        ];
        let (before, after) = (expected(&log[..1]), expected(&log));
        let found = differences(&after, &before);
        assert_eq!(found.len(), 1);
        assert!(found[0].ends_with("01 differs in registered_date"));
    }

    #[test]
    fn ingested_at_is_ignored() {
        let expected = expected(&[logged(0, 1, Some(record(1, "a")))]);
        let mut found = expected.clone();
        for row in found.values_mut() {
            row.insert(INGESTED_AT.to_owned(), vec![7]);
        }
        assert!(differences(&expected, &found).is_empty());
    }

    #[test]
    fn unknown_column_and_other_bytes_are_reported() {
        let expected = expected(&[logged(0, 1, Some(record(1, "a")))]);
        for column in ["surplus", "dob"] {
            let mut found = expected.clone();
            for row in found.values_mut() {
                row.insert(column.to_owned(), vec![7]);
            }
            let differences = differences(&expected, &found);
            assert_eq!(differences.len(), 1);
            assert!(differences[0].ends_with(&format!("01 differs in {column}")));
        }
    }

    #[test]
    fn tombstone_removes_all_rows_of_its_key() {
        let contract = Contract::from_source(
            r#"syntax = "proto3";
            package test.v1;
            import "affluent/options/v1/options.proto";
            message Step {
              option (affluent.options.v1.record) = { resource: "steps" key: "walk" clustering: "number" };
              int32 walk = 1;
              int64 number = 2;
            }"#,
        )
        .unwrap();
        let step = |offset, walk: i32, number: Option<i64>| TopicRecord {
            partition: 0,
            offset,
            timestamp: None,
            log_append_time: true,
            key: Some(walk.to_string().into_bytes()),
            value: number.map(|number| format!(r#"{{"walk":{walk},"number":{number}}}"#).into_bytes()),
            headers: BTreeMap::new(),
        };
        let log = [
            step(0, 1, Some(1)),
            step(1, 2, Some(1)),
            step(2, 2, Some(10)),
            step(3, 3, Some(1)),
            step(4, 2, None),
            step(5, 2, Some(7)),
        ];
        let rows = super::expected(&contract, &log);
        let ids: Vec<_> = rows.keys().map(ToString::to_string).collect();
        assert_eq!(ids, ["1/1", "2/7", "3/1"]);
    }
}
