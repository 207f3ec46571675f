//! The command-line options and the `config` command that every service has.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use model::Contract;

use super::draft::{Draft, Loaded, json};
use super::error::ConfigErrors;
use super::keys::Keys;
use super::origin::Origin;
use super::record::RecordSettings;
use super::schema::schema;
use super::settings::Settings;
use super::tree::leaves;
use super::value::secret::REDACTED;
use crate::output::exit_with_error;
use crate::output::{OutputError, print_line};
use crate::process::exit::EXIT_CONFIG;

/// The options that every service has.
#[derive(Clone, Debug, clap::Args)]
pub struct CommandLine {
    /// Read settings from this TOML file; environment variables override it
    #[arg(long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
    /// Check all settings and the files they name, print every error, and exit: 0 if valid, 78 if not
    #[arg(long, global = true)]
    pub check_config: bool,
}

/// Inspect the configuration
///
/// Example: `--config service.toml config print`
#[derive(Clone, Debug, clap::Args)]
pub struct ConfigCommand {
    #[command(subcommand)]
    action: ConfigAction,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum ConfigAction {
    /// Print each effective setting and where its value comes from; secrets are masked
    ///
    /// Example: `--config service.toml config print`
    Print,
    /// Print the JSON Schema of the configuration file, for editors
    ///
    /// Example: `config schema > service.schema.json`
    Schema,
}

impl CommandLine {
    /// Reads the settings from the file named on the command line and from this process's environment.
    ///
    /// # Errors
    /// The exit code: 78 after printing every error, or 0 after `--check-config`.
    pub fn settings<S: Settings>(&self) -> Result<S, ExitCode> {
        let loaded = self.load::<S>()?;
        if self.check_config {
            let printed = print_line(format_args!("{}: the configuration is valid", S::SERVICE));
            return Err(exit_code(S::SERVICE, printed));
        }
        Ok(loaded.settings)
    }

    /// Loads the contract that the settings `S` name.
    ///
    /// # Errors
    /// The exit code 78 after printing why the contract is refused, with the origin of the setting.
    pub fn contract<S: Settings>(&self, record: &RecordSettings) -> Result<Arc<Contract>, ExitCode> {
        record.load().map_err(|violation| {
            let mut draft = self.draft::<S>();
            draft.check(|_| violation.into());
            draft
                .finish()
                .map_or_else(|errors| report(&errors), |_| ExitCode::from(EXIT_CONFIG))
        })
    }

    fn draft<S: Settings>(&self) -> Draft<S> {
        Draft::read(self.config.as_deref(), std::env::vars_os())
    }

    fn load<S: Settings>(&self) -> Result<Loaded<S>, ExitCode> {
        let mut draft = self.draft::<S>();
        draft.check(S::validate);
        if self.check_config {
            draft.check(S::check_files);
        }
        draft.finish().map_err(|errors| report(&errors))
    }
}

impl ConfigCommand {
    /// Prints the result of the action to standard output.
    ///
    /// # Errors
    /// The exit code of [`CommandLine::settings`], or 1 if standard output is closed.
    pub fn perform<S: Settings>(&self, command_line: &CommandLine) -> ExitCode {
        if let ConfigAction::Schema = self.action {
            return exit_code(S::SERVICE, print_line(format_args!("{:#}", schema::<S>())));
        }
        let loaded = match command_line.load::<S>() {
            Ok(loaded) => loaded,
            Err(code) => return code,
        };
        let text = print(&json(&loaded.settings), &loaded.keys, &loaded.origins);
        exit_code(S::SERVICE, print_line(text.trim_end()))
    }
}

fn report(errors: &ConfigErrors) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "{errors}");
    ExitCode::from(EXIT_CONFIG)
}

fn exit_code(service: &str, printed: Result<(), OutputError>) -> ExitCode {
    printed.map_or_else(
        |error| exit_with_error(service, &error, 1),
        |()| ExitCode::SUCCESS,
    )
}

/// One line for each key: `key = value  # origin`. The entries of maps are masked, since any of them may be a secret.
pub(super) fn print(settings: &serde_json::Value, keys: &Keys, origins: &BTreeMap<String, Origin>) -> String {
    let line = |(key, value): (String, &serde_json::Value)| {
        let value = if value.is_null() {
            "(not set)".to_owned()
        } else if keys.is_in_map(&key) {
            format!("{REDACTED:?}")
        } else {
            value.to_string()
        };
        let origin = origins.get(&key).unwrap_or(&Origin::Default);
        format!("{key} = {value}  # {origin}\n")
    };
    leaves(settings)
        .filter(|(_, value)| !value.is_object())
        .map(line)
        .collect()
}
