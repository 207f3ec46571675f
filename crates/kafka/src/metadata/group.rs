//! The members of a consumer group, and the partitions that they hold.

use std::fmt;

use rdkafka::groups::GroupInfo;

/// A group as its coordinator describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Group {
    /// All members are known. A group that does not exist has none.
    Members(Vec<GroupMember>),
    /// The coordinator does not count the members in this protocol: the group uses another one, such as
    /// `group.protocol=consumer` (KIP-848) or share groups.
    Unknown {
        /// The state that the coordinator reports.
        state: String,
    },
}

/// A member of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupMember {
    /// Its `client.id`.
    pub client_id: String,
    /// Its address, as the broker sees it.
    pub host: String,
    /// The partitions of the topic that are assigned to it.
    pub partitions: Vec<i32>,
}

impl fmt::Display for GroupMember {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let partitions: Vec<_> = self.partitions.iter().map(i32::to_string).collect();
        let held = if partitions.is_empty() {
            "none".to_owned()
        } else {
            partitions.join(", ")
        };
        write!(f, "`{}` at {}, partitions: {held}", self.client_id, self.host)
    }
}

/// The states in which the classic protocol lists all members.
const CLASSIC_STATES: [&str; 4] = ["Empty", "PreparingRebalance", "CompletingRebalance", "Stable"];

impl Group {
    /// Reads the description of one group.
    pub(crate) fn read(group: Option<&GroupInfo>, topic: &str) -> Self {
        let Some(group) = group else {
            return Self::Members(Vec::new());
        };
        if !CLASSIC_STATES.contains(&group.state()) {
            return Self::Unknown {
                state: group.state().to_owned(),
            };
        }
        let members = group.members().iter().map(|member| GroupMember {
            client_id: member.client_id().to_owned(),
            host: member.client_host().trim_start_matches('/').to_owned(),
            partitions: assigned(member.assignment().unwrap_or_default(), topic).unwrap_or_default(),
        });
        Self::Members(members.collect())
    }
}

/// Reads the partitions of `topic` from an assignment of the protocol type `consumer`: a version, then the topics, each with
/// its partitions. `None` if the bytes are something else.
fn assigned(assignment: &[u8], topic: &str) -> Option<Vec<i32>> {
    let mut bytes = assignment.get(2..)?;
    let mut partitions = Vec::new();
    for _ in 0..read_i32(&mut bytes)? {
        let length = usize::try_from(i16::from_be_bytes(*take(&mut bytes)?)).ok()?;
        let name = bytes.get(..length)?;
        bytes = &bytes[length..];
        for _ in 0..read_i32(&mut bytes)? {
            let partition = read_i32(&mut bytes)?;
            if name == topic.as_bytes() {
                partitions.push(partition);
            }
        }
    }
    Some(partitions)
}

fn read_i32(bytes: &mut &[u8]) -> Option<i32> {
    take(bytes).map(|read| i32::from_be_bytes(*read))
}

fn take<'a, const N: usize>(bytes: &mut &'a [u8]) -> Option<&'a [u8; N]> {
    let (first, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assignment(topics: &[(&str, &[i32])]) -> Vec<u8> {
        let length = |count: usize| i32::try_from(count).unwrap().to_be_bytes();
        let mut bytes = vec![0, 1];
        bytes.extend(length(topics.len()));
        for (name, partitions) in topics {
            bytes.extend(i16::try_from(name.len()).unwrap().to_be_bytes());
            bytes.extend(name.as_bytes());
            bytes.extend(length(partitions.len()));
            bytes.extend(partitions.iter().flat_map(|partition| partition.to_be_bytes()));
        }
        bytes.extend([0xff; 4]);
        bytes
    }

    #[test]
    fn partitions_of_one_topic_are_read_from_an_assignment() {
        let bytes = assignment(&[("other", &[7]), ("users", &[0, 3])]);
        assert_eq!(assigned(&bytes, "users"), Some(vec![0, 3]));
        assert_eq!(assigned(&bytes, "none"), Some(vec![]));
        for length in 0..bytes.len() - 4 {
            assert_eq!(assigned(&bytes[..length], "users"), None, "{length}");
        }
    }
}
