//! Compares topic and table: each user's last valid record in the log is its row, and there are no other rows.

use std::collections::BTreeMap;

use model::{User, UserId};
use uuid::Uuid;

use crate::cassandra_client::UserRow;
use crate::kafka_client::TopicRecord;

/// Returns the rows that the log implies, without `ingested_at`, which a record may lack.
///
/// All records of a user are in one partition, in order.
pub fn expected(log: &[TopicRecord]) -> BTreeMap<Uuid, UserRow> {
    let mut users = BTreeMap::new();
    for record in log {
        match (&record.value, &record.key) {
            (Some(value), _) => {
                if let Ok(user) = User::parse_lenient(value) {
                    users.insert(*user.id().as_uuid(), row(&user));
                }
            }
            (None, Some(key)) => {
                if let Ok(id) = UserId::parse(key) {
                    users.remove(id.as_uuid());
                }
            }
            (None, None) => {}
        }
    }
    users
}

/// Returns the row of a record. A null column is absent.
pub fn row(user: &User<'_>) -> UserRow {
    let mut row = UserRow::from([
        ("first_name", user.first_name().to_string()),
        ("last_name", user.last_name().to_string()),
        ("gender", user.gender().to_string()),
        ("address", user.address().to_string()),
        ("post_code", user.post_code().to_string()),
        ("email", user.email().to_string()),
        ("username", user.username().to_string()),
        ("phone", user.phone().to_string()),
        ("picture", user.picture().to_string()),
        ("dob", user.dob().as_millis().to_string()),
    ]);
    if let Some(registered) = user.registered_date() {
        row.insert("registered_date", registered.as_millis().to_string());
    }
    row
}

/// Returns at most ten differences between the expected and the actual rows, or none when they agree.
pub fn differences(expected: &BTreeMap<Uuid, UserRow>, found: &BTreeMap<Uuid, UserRow>) -> Vec<String> {
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
            .find(|column| **column != "ingested_at" && row.get(*column) != found.get(*column))?;
        Some(format!("{id} differs in {column}"))
    });
    missing.chain(unknown).chain(other).take(10).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(id: u8, name: &str) -> Vec<u8> {
        format!(
            r#"{{"id":"00000000-0000-4000-8000-0000000000{id:02}","first_name":"{name}","last_name":"L","gender":"f","address":"a","post_code":"1","email":"a@b","username":"u","dob":"1970-01-01T00:00:00.000Z","registered_date":"1970-01-01T00:00:00.000Z","phone":"1","picture":"p"}}"#
        )
        .into_bytes()
    }

    fn logged(offset: i64, id: u8, value: Option<Vec<u8>>) -> TopicRecord {
        let key = format!("00000000-0000-4000-8000-0000000000{id:02}").into_bytes();
        TopicRecord {
            partition: 0,
            offset,
            timestamp: None,
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
        assert_eq!(expected.values().next().unwrap()["first_name"], "new");
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
        let undated = String::from_utf8(dated.clone())
            .unwrap()
            .replace(r#""registered_date":"1970-01-01T00:00:00.000Z","#, "");
        let log = [
            logged(0, 1, Some(dated)),
            logged(1, 1, Some(undated.into_bytes())),
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
            row.insert("ingested_at", "7".to_owned());
        }
        assert!(differences(&expected, &found).is_empty());
    }
}
