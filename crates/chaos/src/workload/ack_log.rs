//! What the workload has sent, and what was acknowledged.

use std::collections::{BTreeSet, HashSet};

use model::Key;

use crate::evidence::records::AckedRecord;

/// See the fields of the same names in [`crate::evidence::Evidence`].
#[derive(Debug, Default)]
pub(crate) struct AckLog {
    pub(crate) acked: Vec<AckedRecord>,
    pub(crate) sent_keys: BTreeSet<Key>,
    pub(crate) sent_fingerprints: HashSet<u64>,
    pub(crate) wrong_responses: Vec<String>,
}
