//! Sample records.

use serde_json::{Value, json};
use uuid::Uuid;

/// A valid record with a unique id.
pub(crate) fn user() -> Value {
    json!({
        "id": Uuid::new_v4().to_string(),
        "first_name": "Zoë",
        "last_name": "O'Neill",
        "gender": "female",
        "address": "12 Main Street, Cork, Munster, Ireland",
        "post_code": "0378",
        "email": "zoe@example.com",
        "username": "zebra12",
        "dob": "1968-02-29T01:02:03.004Z",
        "registered_date": "2015-01-02T03:04:05.006Z",
        "phone": "041-123-4567",
        "picture": "https://example.com/women/1.jpg",
    })
}

/// `count` valid records.
pub(crate) fn users(count: usize) -> Vec<Value> {
    (0..count).map(|_| user()).collect()
}

/// A valid record with another value of one field.
pub(crate) fn user_with(field: &str, value: Value) -> Value {
    let mut user = user();
    user[field] = value;
    user
}

/// The ids of the records, in order.
pub(crate) fn ids(users: &[Value]) -> Vec<String> {
    users
        .iter()
        .map(|user| user["id"].as_str().unwrap().to_owned())
        .collect()
}
