//! Topic against table: every user's last valid record in the log is its row, byte for byte, and nothing else is there.

use std::collections::BTreeMap;

use model::User;
use uuid::Uuid;

use crate::cassandra_client::UserRow;
use crate::kafka_client::TopicRecord;

/// What the table must hold according to the log, without `ingested_at`, which a record need not say.
///
/// The order is that of the log within a partition; a user's records lie in one.
pub fn expected(log: &[TopicRecord]) -> BTreeMap<Uuid, UserRow> {
    let mut users = BTreeMap::new();
    for record in log {
        match &record.value {
            Some(value) => {
                if let Ok(user) = User::parse_lenient(value) {
                    users.insert(*user.id().as_uuid(), row(&user));
                }
            }
            None => {
                let id = record
                    .key
                    .as_deref()
                    .and_then(|key| model::UserId::parse(key).ok());
                if let Some(id) = id {
                    users.remove(id.as_uuid());
                }
            }
        }
    }
    users
}

/// A record as the table must have it: a column that is null there is not in the row.
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

/// How the table differs from what it must hold; empty when it does not. At most ten differences are told.
pub fn differences(expected: &BTreeMap<Uuid, UserRow>, found: &BTreeMap<Uuid, UserRow>) -> Vec<String> {
    let missing = expected
        .keys()
        .filter(|id| !found.contains_key(*id))
        .map(|id| format!("{id} is missing"));
    let strange = found
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
    missing.chain(strange).chain(other).take(10).collect()
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

    fn tapped(offset: i64, id: u8, value: Option<Vec<u8>>) -> TopicRecord {
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
    fn the_last_record_of_a_user_counts_and_a_tombstone_removes_it() {
        let log = [
            tapped(0, 1, Some(record(1, "old"))),
            tapped(1, 2, Some(record(2, "gone"))),
            tapped(2, 1, Some(record(1, "new"))),
            tapped(3, 2, None),
            tapped(4, 3, Some(b"garbage".to_vec())),
        ];
        let expected = expected(&log);
        assert_eq!(expected.len(), 1);
        assert_eq!(expected.values().next().unwrap()["first_name"], "new");
    }

    #[test]
    fn a_missing_a_strange_and_a_differing_row_are_told() {
        let one = expected(&[
            tapped(0, 1, Some(record(1, "a"))),
            tapped(1, 2, Some(record(2, "a"))),
        ]);
        let other = expected(&[
            tapped(0, 1, Some(record(1, "b"))),
            tapped(1, 3, Some(record(3, "a"))),
        ]);
        let told = differences(&one, &other);
        assert_eq!(told.len(), 3);
        assert!(told[0].ends_with("02 is missing") && told[1].ends_with("03 was never sent"));
        assert!(told[2].ends_with("01 differs in first_name"));
        assert!(differences(&one, &one).is_empty());
    }

    #[test]
    fn a_value_that_the_last_record_no_longer_has_is_told() {
        let dated = record(1, "a");
        let undated = String::from_utf8(dated.clone())
            .unwrap()
            .replace(r#""registered_date":"1970-01-01T00:00:00.000Z","#, "");
        let log = [
            tapped(0, 1, Some(dated)),
            tapped(1, 1, Some(undated.into_bytes())),
        ];
        let (before, after) = (expected(&log[..1]), expected(&log));
        let told = differences(&after, &before);
        assert_eq!(told.len(), 1);
        assert!(told[0].ends_with("01 differs in registered_date"));
    }

    #[test]
    fn the_time_of_ingestion_is_no_difference() {
        let expected = expected(&[tapped(0, 1, Some(record(1, "a")))]);
        let mut found = expected.clone();
        for row in found.values_mut() {
            row.insert("ingested_at", "7".to_owned());
        }
        assert!(differences(&expected, &found).is_empty());
    }
}
