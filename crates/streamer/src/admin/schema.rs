//! `streamer schema`: shows the table that the contract needs, and adds the columns that the present table lacks. Never
//! drops a column and never changes a type.

use clap::{Args, Subcommand};

use crate::admin::clients::Clients;
use crate::admin::error::CommandError;
use crate::admin::output::print_line;
use crate::cassandra::schema;
use crate::cassandra::schema::columns::{Addition, Difference};

/// The arguments of `schema`.
#[derive(Debug, Args)]
pub struct SchemaArgs {
    #[command(subcommand)]
    command: SchemaCommand,
}

#[derive(Debug, Subcommand)]
enum SchemaCommand {
    /// Print the statement that creates the table of the contract; connects to no server
    #[command(after_help = "Example: streamer schema show --config streamer.toml")]
    Show,
    /// Print the statements that `apply` would run: the new table, or its new columns
    ///
    /// Refuses a new field that is required, because the existing rows lack it, and any change of the key, the clustering
    /// columns or a type.
    #[command(after_help = "Example: streamer schema plan --config streamer.toml")]
    Plan,
    /// Run the statements of `plan`
    ///
    /// Does not create a table if checkpoints show that an earlier one is lost.
    #[command(after_help = "Example: streamer schema apply --config streamer.toml")]
    Apply,
}

/// # Errors
/// When Cassandra rejects a request or does not respond in time, or the table can't be changed to fit the contract.
pub(super) async fn schema(clients: &Clients, arguments: &SchemaArgs) -> Result<(), CommandError> {
    let settings = &clients.settings().cassandra;
    match arguments.command {
        SchemaCommand::Show => print_line(format_args!(
            "{};",
            schema::create_table(settings, clients.contract())
        )),
        SchemaCommand::Plan => {
            let plan = SchemaPlan::make(clients).await?;
            if plan.statements.is_empty() {
                return print_line(no_difference(clients));
            }
            plan.show()
        }
        SchemaCommand::Apply => apply(clients).await,
    }
}

async fn apply(clients: &Clients) -> Result<(), CommandError> {
    let settings = &clients.settings().cassandra;
    let plan = SchemaPlan::make(clients).await?;
    if clients.table_id().await?.is_none() {
        let checkpoints = clients.checkpoints().await?;
        clients
            .cassandra(async |session| {
                schema::ensure_checkpoints(session, settings).await?;
                schema::ensure_table(session, settings, clients.contract(), !checkpoints.is_empty()).await
            })
            .await?;
    } else {
        for statement in &plan.statements {
            clients
                .cassandra(async |session| schema::run(session, "add the column", statement).await)
                .await?;
        }
    }
    plan.show()?;
    // Verified, because the table may have changed in the meantime.
    match clients.table().await? {
        Some(_) => print_line(no_difference(clients)),
        None => Err(clients.no_table()),
    }
}

fn no_difference(clients: &Clients) -> String {
    format!(
        "table {} fits the contract {}",
        clients.table_name(),
        clients.contract().name()
    )
}

/// The statements after which the table fits the contract.
#[derive(Debug, Default, PartialEq, Eq)]
struct SchemaPlan {
    statements: Vec<String>,
    /// The new lists and maps.
    need_replay: Vec<String>,
}

impl SchemaPlan {
    async fn make(clients: &Clients) -> Result<Self, CommandError> {
        let settings = &clients.settings().cassandra;
        let differences = clients
            .cassandra(async |session| schema::compare(session, settings, clients.contract()).await)
            .await?;
        match differences {
            Some(differences) => Self::of(differences).map_err(CommandError::SchemaChange),
            None => Ok(Self {
                statements: vec![schema::create_table(settings, clients.contract())],
                ..Self::default()
            }),
        }
    }

    /// Returns the plan that adds columns, or why the table can't be changed.
    fn of(differences: Vec<Difference>) -> Result<Self, String> {
        let mut plan = Self::default();
        let mut refused = Vec::new();
        for difference in differences {
            let (column, statement, addition) = match difference {
                Difference::Missing {
                    column,
                    statement,
                    addition,
                } => (column, statement, addition),
                Difference::Incompatible(text) => {
                    refused.push(text);
                    continue;
                }
            };
            match addition {
                Addition::Valid => plan.statements.push(statement),
                Addition::NeedsReplay => {
                    plan.statements.push(statement);
                    plan.need_replay.push(column);
                }
                Addition::Refused => refused.push(format!(
                    "field {column} is new and required, but the existing rows lack it: make it `optional`"
                )),
            }
        }
        if refused.is_empty() {
            Ok(plan)
        } else {
            Err(refused.join("; "))
        }
    }

    /// Prints the plan as CQL.
    fn show(&self) -> Result<(), CommandError> {
        for statement in &self.statements {
            print_line(format_args!("{statement};"))?;
        }
        if !self.need_replay.is_empty() {
            print_line(format_args!(
                "-- {}: null in the existing rows, and empty after `streamer replay --from-offset 0`",
                self.need_replay.join(", ")
            ))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn missing(column: &str, addition: Addition) -> Difference {
        Difference::Missing {
            column: column.to_owned(),
            statement: format!("add {column}"),
            addition,
        }
    }

    #[test]
    fn only_columns_that_rows_may_lack_are_added() {
        let addable = vec![
            missing("coupon", Addition::Valid),
            missing("tags", Addition::NeedsReplay),
        ];
        let plan = SchemaPlan {
            statements: vec!["add coupon".to_owned(), "add tags".to_owned()],
            need_replay: vec!["tags".to_owned()],
        };
        assert_eq!(SchemaPlan::of(addable), Ok(plan));
        let refused = vec![
            missing("coupon", Addition::Valid),
            missing("total", Addition::Refused),
            Difference::Incompatible("column note has type int".to_owned()),
        ];
        let error = SchemaPlan::of(refused).unwrap_err();
        assert!(
            error.contains("field total is new and required")
                && error.ends_with("; column note has type int"),
            "{error}"
        );
    }
}
