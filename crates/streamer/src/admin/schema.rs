//! `streamer schema`: shows the table that the contract needs, and adds the columns that the present table lacks. Never
//! drops a column and never changes a type.

use clap::{Args, Subcommand};

use crate::admin::clients::Clients;
use crate::admin::error::CommandError;
use crate::admin::output::print_line;
use crate::cassandra::schema;
use crate::cassandra::schema::columns::Difference;

/// The arguments of `schema`.
#[derive(Debug, Args)]
pub struct SchemaArgs {
    #[command(subcommand)]
    command: SchemaCommand,
}

#[derive(Debug, Subcommand)]
enum SchemaCommand {
    /// Print the statement that creates the table of the contract; connects to no server
    Show,
    /// Print the statements that `apply` would run: the new table, or its new columns
    ///
    /// Refuses a new field that is neither optional nor a list or map, because the existing rows lack it, and any change
    /// of the key, the clustering columns or a type.
    Plan,
    /// Run the statements of `plan`
    ///
    /// Does not create a table if checkpoints show that an earlier one is lost.
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
            let statements = plan(clients).await?;
            for statement in &statements {
                print_line(format_args!("{statement};"))?;
            }
            if statements.is_empty() {
                return print_line(no_difference(clients));
            }
            Ok(())
        }
        SchemaCommand::Apply => apply(clients).await,
    }
}

async fn apply(clients: &Clients) -> Result<(), CommandError> {
    let settings = &clients.settings().cassandra;
    let statements = plan(clients).await?;
    if clients.table_id().await?.is_none() {
        let checkpoints = clients.checkpoints().await?;
        clients
            .cassandra(async |session| {
                schema::ensure_checkpoints(session, settings).await?;
                schema::ensure_table(session, settings, clients.contract(), !checkpoints.is_empty()).await
            })
            .await?;
    } else {
        for statement in &statements {
            clients
                .cassandra(async |session| schema::run(session, "add the column", statement).await)
                .await?;
        }
    }
    for statement in &statements {
        print_line(format_args!("{statement};"))?;
    }
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

/// Returns the statements after which the table fits the contract.
async fn plan(clients: &Clients) -> Result<Vec<String>, CommandError> {
    let settings = &clients.settings().cassandra;
    let differences = clients
        .cassandra(async |session| schema::compare(session, settings, clients.contract()).await)
        .await?;
    match differences {
        Some(differences) => additions(differences).map_err(CommandError::SchemaChange),
        None => Ok(vec![schema::create_table(settings, clients.contract())]),
    }
}

/// Returns the statements that add columns, or why the table can't be changed.
fn additions(differences: Vec<Difference>) -> Result<Vec<String>, String> {
    let mut statements = Vec::new();
    let mut refused = Vec::new();
    for difference in differences {
        match difference {
            Difference::Missing {
                statement,
                is_addable: true,
                ..
            } => statements.push(statement),
            Difference::Missing { column, .. } => refused.push(format!(
                "field {column} is new and required, but the existing rows lack it: make it `optional`"
            )),
            Difference::Incompatible(text) => refused.push(text),
        }
    }
    if refused.is_empty() {
        Ok(statements)
    } else {
        Err(refused.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn missing(column: &str, is_addable: bool) -> Difference {
        Difference::Missing {
            column: column.to_owned(),
            statement: format!("add {column}"),
            is_addable,
        }
    }

    #[test]
    fn only_columns_that_rows_may_lack_are_added() {
        let addable = vec![missing("coupon", true), missing("tags", true)];
        assert_eq!(additions(addable).unwrap(), ["add coupon", "add tags"]);
        let refused = vec![
            missing("coupon", true),
            missing("total", false),
            Difference::Incompatible("column note has type int".to_owned()),
        ];
        let error = additions(refused).unwrap_err();
        assert!(
            error.contains("field total is new and required")
                && error.ends_with("; column note has type int"),
            "{error}"
        );
    }
}
