//! A setting that is the name of a Kafka topic.

use std::fmt;
use std::ops::Deref;

use serde::{Deserialize, Serialize};

/// A name by Kafka's rule: 1 to 249 letters, digits, `.`, `_` and `-`, but not `.` or `..`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TopicName(String);

impl TryFrom<String> for TopicName {
    type Error = &'static str;

    fn try_from(name: String) -> Result<Self, Self::Error> {
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        let is_name =
            (1..=249).contains(&name.len()) && name.bytes().all(legal) && !matches!(&*name, "." | "..");
        if is_name {
            Ok(Self(name))
        } else {
            Err("must be a topic name: 1 to 249 letters, digits, `.`, `_` and `-`, but not `.` or `..`")
        }
    }
}

impl From<TopicName> for String {
    fn from(name: TopicName) -> Self {
        name.0
    }
}

impl Deref for TopicName {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TopicName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
