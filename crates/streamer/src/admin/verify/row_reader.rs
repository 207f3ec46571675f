//! Reads the row that a record expects and the row in the table, in a form that allows comparison.

use std::hash::{DefaultHasher, Hasher as _};

use cdrs_tokio::types::ByName as _;
use cdrs_tokio::types::rows::Row;
use cdrs_tokio::types::value::Value;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use model::{Instant, User, UserId};
use uuid::Uuid;

use crate::admin::clients::Clients;
use crate::admin::error::CommandError;
use crate::cassandra::error_class::ErrorClass;
use crate::cassandra::schema::SchemaError;
use crate::cassandra::session::Session;
use crate::cassandra::statements;
use crate::config::Tombstones;
use crate::consumer::scan::ScannedRecord;
use crate::pipeline::consumed_record;
use crate::pipeline::remaining_ttl::RowTtl;
use crate::pipeline::row::ColumnTypes;

/// The row that a record expects for its user.
#[derive(Clone, Copy, Debug)]
pub(super) struct ExpectedRow {
    pub(super) state: RowState,
    /// When the row expires, in milliseconds since 1970; `None`: never.
    expires_at: Option<i64>,
}

/// The assumed clock skew between this host and the Cassandra nodes, in milliseconds.
const MAX_CLOCK_SKEW_MS: i64 = 5_000;

impl ExpectedRow {
    /// Whether the row in the table may be `found` at `now`, in milliseconds since 1970.
    pub(super) fn accepts(&self, found: RowState, now: i64) -> bool {
        let expired = self
            .expires_at
            .is_some_and(|expires_at| expires_at < now + MAX_CLOCK_SKEW_MS);
        let long_expired = self
            .expires_at
            .is_some_and(|expires_at| expires_at + MAX_CLOCK_SKEW_MS < now);
        (found == self.state && !long_expired) || (found == RowState::Absent && expired)
    }

    /// Whether no row is expected at `now`.
    pub(super) fn is_absent(&self, now: i64) -> bool {
        self.state == RowState::Absent || self.expires_at.is_some_and(|expires_at| expires_at < now)
    }
}

/// The state of a user's row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RowState {
    /// A row with the fingerprint of its values.
    Row(u64),
    /// No row.
    Absent,
}

/// Reads row states from records and from the table.
pub(super) struct RowReader {
    select: String,
    shape: ColumnTypes,
    tombstones: Tombstones,
    row_ttl: RowTtl,
}

const TEXTS: [&str; 9] = [
    "first_name",
    "last_name",
    "gender",
    "address",
    "post_code",
    "email",
    "username",
    "phone",
    "picture",
];
/// Rows that share one timeout.
const ROWS_PER_REQUEST: usize = 500;
/// Concurrent reads.
const MAX_CONCURRENT_READS: usize = 64;

impl RowReader {
    pub(super) fn new(clients: &Clients, shape: ColumnTypes) -> Self {
        let columns = TEXTS.join(", ");
        let table = clients.table_name();
        Self {
            select: format!("SELECT {columns}, dob, registered_date FROM {table} WHERE id = ?"),
            shape,
            tombstones: clients.settings().tombstones,
            row_ttl: RowTtl::new(clients.settings().cassandra.row_ttl),
        }
    }

    /// Returns the row that a record expects, unless the record can't be a row.
    pub(super) fn read(&self, record: &ScannedRecord) -> Option<(Uuid, ExpectedRow)> {
        let Some(value) = record.raw.value() else {
            let id = UserId::parse(record.raw.key()?).ok()?;
            let (state, expires_at) = (RowState::Absent, None);
            let deletes = self.tombstones == Tombstones::Delete;
            return deletes.then_some((*id.as_uuid(), ExpectedRow { state, expires_at }));
        };
        let user = User::parse_lenient(value).ok()?;
        let accepted_at = consumed_record::accepted_at(record.raw.headers(), record.timestamp);
        let expected = ExpectedRow {
            state: self.of_user(&user),
            expires_at: self.row_ttl.expires_at(accepted_at),
        };
        Some((*user.id().as_uuid(), expected))
    }

    fn of_user(&self, user: &User<'_>) -> RowState {
        let mut values = Fingerprint::default();
        for text in [
            user.first_name(),
            user.last_name(),
            user.gender(),
            user.address(),
            user.post_code(),
        ] {
            values.text(Some(text.as_str()));
        }
        values.text(Some(user.email().as_str()));
        for text in [user.username(), user.phone(), user.picture()] {
            values.text(Some(text.as_str()));
        }
        values.instant(Some(user.dob()), self.shape.dob_is_text);
        values.instant(user.registered_date(), self.shape.registered_date_is_text);
        values.finish()
    }

    fn of_row(&self, row: &Row) -> Result<RowState, ErrorClass> {
        let text = |name| row.by_name::<String>(name).map_err(|error| unreadable(&error));
        let number = |name| row.by_name::<i64>(name).map_err(|error| unreadable(&error));
        let mut values = Fingerprint::default();
        for name in TEXTS {
            values.text(text(name)?.as_deref());
        }
        for (name, is_text) in [
            ("dob", self.shape.dob_is_text),
            ("registered_date", self.shape.registered_date_is_text),
        ] {
            if is_text {
                values.text(text(name)?.as_deref());
            } else {
                values.number(number(name)?);
            }
        }
        Ok(values.finish())
    }

    /// Passes the state of each row of `ids` to `each`.
    ///
    /// # Errors
    /// When Cassandra rejects a request, or does not respond in time.
    pub(super) async fn read_table(
        &self,
        clients: &Clients,
        ids: &[Uuid],
        mut each: impl FnMut(Uuid, RowState),
    ) -> Result<(), CommandError> {
        for ids in ids.chunks(ROWS_PER_REQUEST) {
            let states = clients
                .cassandra(async |session| {
                    let read = self.read_chunk(session, ids).await;
                    read.map_err(|error| SchemaError::Failed {
                        operation: "read rows",
                        error,
                    })
                })
                .await?;
            for (id, state) in ids.iter().zip(states) {
                each(*id, state);
            }
        }
        Ok(())
    }

    async fn read_chunk(&self, session: &Session, ids: &[Uuid]) -> Result<Vec<RowState>, ErrorClass> {
        let select = &session.prepare(&self.select).await?;
        stream::iter(ids)
            .map(async |id| {
                let id = Value::Some(id.as_bytes().to_vec());
                let parameters = statements::parameters(vec![id], session.consistency());
                let reply = session.execute(select, &parameters).await?;
                let body = reply
                    .response_body()
                    .map_err(|error| ErrorClass::classify(&error))?;
                match body.into_rows().unwrap_or_default().first() {
                    Some(row) => self.of_row(row),
                    None => Ok(RowState::Absent),
                }
            })
            .buffered(MAX_CONCURRENT_READS)
            .try_collect()
            .await
    }
}

fn unreadable(error: &cdrs_tokio::Error) -> ErrorClass {
    ErrorClass::Invalid(error.to_string())
}

/// A hash of a row's values. Two different rows have the same hash in 1 of 2^64 cases.
#[derive(Default)]
struct Fingerprint(DefaultHasher);

impl Fingerprint {
    fn text(&mut self, text: Option<&str>) {
        self.0.write_u8(u8::from(text.is_some()));
        self.0.write(text.unwrap_or_default().as_bytes());
        // UTF-8 never contains this byte.
        self.0.write_u8(0xff);
    }

    fn number(&mut self, number: Option<i64>) {
        self.0.write_u8(u8::from(number.is_some()));
        self.0.write_i64(number.unwrap_or_default());
    }

    fn instant(&mut self, instant: Option<Instant>, as_text: bool) {
        if as_text {
            self.text(instant.map(|it| it.to_string()).as_deref());
        } else {
            self.number(instant.map(Instant::as_millis));
        }
    }

    fn finish(self) -> RowState {
        RowState::Row(self.0.finish())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expired_row_must_be_absent_after_the_clock_skew() {
        let row = RowState::Row(7);
        let expected = ExpectedRow {
            state: row,
            expires_at: Some(100_000),
        };
        assert!(expected.accepts(row, 0) && !expected.accepts(RowState::Absent, 0));
        assert!(expected.accepts(row, 100_000) && expected.accepts(RowState::Absent, 100_000));
        assert!(!expected.accepts(row, 200_000) && expected.accepts(RowState::Absent, 200_000));
        assert!(!expected.accepts(RowState::Row(8), 100_000));
        let endless = ExpectedRow {
            expires_at: None,
            ..expected
        };
        assert!(endless.accepts(row, i64::MAX) && !endless.accepts(RowState::Absent, i64::MAX));
    }
}
