//! Documents that are generated from a service's command line: shell completions and man pages.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::CommandFactory;

use crate::output::exit_with_error;

/// Print the completions of a shell; source them, or save them where the shell finds them
///
/// Example: `completions bash`
#[derive(Clone, Debug, clap::Args)]
pub struct CompletionsCommand {
    /// The shell
    shell: clap_complete::Shell,
}

/// Write the man pages of all commands into a folder, for packages
///
/// Example: `man target/man`
#[derive(Clone, Debug, clap::Args)]
#[command(hide = true)]
pub struct ManCommand {
    /// The folder
    directory: PathBuf,
}

impl CompletionsCommand {
    /// Prints the completions of `C`, or returns exit code 1 if standard output can't be written.
    pub fn perform<C: CommandFactory>(&self) -> ExitCode {
        let mut command = C::command();
        let name = command.get_name().to_owned();
        // Into memory: the generator panics if it can't write.
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut command, &name, &mut script);
        exit_code(&name, "standard output", io::stdout().write_all(&script))
    }
}

impl ManCommand {
    /// Writes `NAME.1` and `NAME-COMMAND.1` of `C`, or returns exit code 1 if the folder can't be written.
    pub fn perform<C: CommandFactory>(&self) -> ExitCode {
        let command = C::command();
        let name = command.get_name().to_owned();
        let folder = self.directory.display().to_string();
        exit_code(&name, &folder, clap_mangen::generate_to(command, &self.directory))
    }
}

#[derive(Debug, thiserror::Error)]
#[error("failed to write to {target}")]
struct WriteError {
    target: String,
    source: io::Error,
}

fn exit_code(name: &str, target: &str, written: io::Result<()>) -> ExitCode {
    let Err(source) = written else {
        return ExitCode::SUCCESS;
    };
    let target = target.to_owned();
    exit_with_error(name, &WriteError { target, source }, 1)
}
