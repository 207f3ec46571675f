//! What a record asks the table to hold for its user, and what the table holds, in a form in which both compare.

use std::hash::{DefaultHasher, Hasher as _};

use cdrs_tokio::types::ByName as _;
use cdrs_tokio::types::rows::Row;
use cdrs_tokio::types::value::Value;
use futures::{StreamExt as _, TryStreamExt as _, stream};
use model::{Instant, User, UserId};
use uuid::Uuid;

use crate::cassandra::fault::Fault;
use crate::cassandra::schema::SchemaError;
use crate::cassandra::session::Live;
use crate::cassandra::statements;
use crate::commands::error::CommandError;
use crate::commands::servers::Servers;
use crate::kafka::scan::Scanned;
use crate::record;
use crate::retention::Retention;
use crate::row::Shape;
use crate::settings::Tombstones;

/// What a record asks the table to have for its user.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    pub(super) version: Version,
    /// When its row ends, in milliseconds since 1970; none: never.
    end: Option<i64>,
}

/// The clocks of this machine and of Cassandra's nodes may be so far apart, in milliseconds.
const CLOCKS: i64 = 5_000;

impl Wanted {
    /// Whether the table may have `found` for it at `now`, in milliseconds since 1970.
    pub(super) fn explains(&self, found: Version, now: i64) -> bool {
        let over = self.end.is_some_and(|end| end < now + CLOCKS);
        let long_over = self.end.is_some_and(|end| end + CLOCKS < now);
        (found == self.version && !long_over) || (found == Version::Gone && over)
    }

    /// Whether there should be no row at `now`.
    pub(super) fn is_gone(&self, now: i64) -> bool {
        self.version == Version::Gone || self.end.is_some_and(|end| end < now)
    }
}

/// What the table has, or has to have, for a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    /// A row with these values.
    Row(u64),
    /// No row.
    Gone,
}

/// Reads versions from records and from the table.
pub(super) struct Reader {
    select: String,
    shape: Shape,
    tombstones: Tombstones,
    retention: Retention,
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
/// Rows asked for under one deadline.
const CHUNK: usize = 500;
/// Rows asked for at once.
const AT_ONCE: usize = 64;

impl Reader {
    pub(super) fn new(servers: &Servers, shape: Shape) -> Self {
        let columns = TEXTS.join(", ");
        let table = servers.table_name();
        Self {
            select: format!("SELECT {columns}, dob, registered_date FROM {table} WHERE id = ?"),
            shape,
            tombstones: servers.settings().tombstones,
            retention: Retention::new(servers.settings().cassandra.row_ttl),
        }
    }

    /// What a record asks for; none, if it can't be a row.
    pub(super) fn read(&self, record: &Scanned) -> Option<(Uuid, Wanted)> {
        let Some(value) = record.raw.value() else {
            let id = UserId::parse(record.raw.key()?).ok()?;
            let (version, end) = (Version::Gone, None);
            let deletes = self.tombstones == Tombstones::Delete;
            return deletes.then_some((*id.as_uuid(), Wanted { version, end }));
        };
        let user = User::parse_lenient(value).ok()?;
        let accepted_at = record::accepted_at(record.raw.headers(), record.timestamp);
        let wanted = Wanted {
            version: self.of_user(&user),
            end: self.retention.end(accepted_at),
        };
        Some((*user.id().as_uuid(), wanted))
    }

    fn of_user(&self, user: &User<'_>) -> Version {
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

    fn of_row(&self, row: &Row) -> Result<Version, Fault> {
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

    /// Tells `each` what the table has for every one of `ids`.
    ///
    /// # Errors
    /// When Cassandra refuses, or has not answered in time.
    pub(super) async fn read_table(
        &self,
        servers: &Servers,
        ids: &[Uuid],
        mut each: impl FnMut(Uuid, Version),
    ) -> Result<(), CommandError> {
        for ids in ids.chunks(CHUNK) {
            let versions = servers
                .cassandra(async |live| {
                    let read = self.read_chunk(live, ids).await;
                    read.map_err(|fault| SchemaError::Failed {
                        operation: "read rows",
                        fault,
                    })
                })
                .await?;
            for (id, version) in ids.iter().zip(versions) {
                each(*id, version);
            }
        }
        Ok(())
    }

    async fn read_chunk(&self, live: &Live, ids: &[Uuid]) -> Result<Vec<Version>, Fault> {
        let select = &live.prepare(&self.select).await?;
        stream::iter(ids)
            .map(async |id| {
                let id = Value::Some(id.as_bytes().to_vec());
                let parameters = statements::parameters(vec![id], live.consistency());
                let reply = live.execute(select, &parameters).await?;
                let body = reply.response_body().map_err(|error| Fault::of(&error))?;
                match body.into_rows().unwrap_or_default().first() {
                    Some(row) => self.of_row(row),
                    None => Ok(Version::Gone),
                }
            })
            .buffered(AT_ONCE)
            .try_collect()
            .await
    }
}

fn unreadable(error: &cdrs_tokio::Error) -> Fault {
    Fault::Invalid(error.to_string())
}

/// Two rows of the same values have the same one; two others have the same one in 1 of 2^64 cases.
#[derive(Default)]
struct Fingerprint(DefaultHasher);

impl Fingerprint {
    fn text(&mut self, text: Option<&str>) {
        self.0.write_u8(u8::from(text.is_some()));
        self.0.write(text.unwrap_or_default().as_bytes());
        // No text contains this byte.
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

    fn finish(self) -> Version {
        Version::Row(self.0.finish())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_that_is_over_has_to_be_gone_and_around_its_end_may_be_either() {
        let row = Version::Row(7);
        let wanted = Wanted {
            version: row,
            end: Some(100_000),
        };
        assert!(wanted.explains(row, 0) && !wanted.explains(Version::Gone, 0));
        assert!(wanted.explains(row, 100_000) && wanted.explains(Version::Gone, 100_000));
        assert!(!wanted.explains(row, 200_000) && wanted.explains(Version::Gone, 200_000));
        assert!(!wanted.explains(Version::Row(8), 100_000));
        let endless = Wanted { end: None, ..wanted };
        assert!(endless.explains(row, i64::MAX) && !endless.explains(Version::Gone, i64::MAX));
    }
}
