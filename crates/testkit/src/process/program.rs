//! A program to run: arguments, environment, log file and lifetime.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{Child, Lifetime, ProcessError, spawner};

/// A program that can be started any number of times.
#[derive(Debug, Clone)]
pub struct Program {
    program: OsString,
    arguments: Vec<OsString>,
    environment: BTreeMap<OsString, OsString>,
    folder: Option<PathBuf>,
    log: Option<PathBuf>,
    lifetime: Lifetime,
}

impl Program {
    /// A program by name (found in `PATH`) or path. Its output is discarded.
    pub fn new(program: impl Into<OsString>) -> Self {
        Self {
            program: program.into(),
            arguments: Vec::new(),
            environment: BTreeMap::new(),
            folder: None,
            log: None,
            lifetime: Lifetime::WithParent,
        }
    }

    /// Adds one argument.
    pub fn arg(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Adds several arguments.
    pub fn args<A: Into<OsString>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Sets an environment variable. The others are inherited.
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.environment.insert(name.into(), value.into());
        self
    }

    /// Sets the working folder.
    pub fn in_folder(mut self, folder: impl Into<PathBuf>) -> Self {
        self.folder = Some(folder.into());
        self
    }

    /// Appends standard output and standard error to a file, which is created with its folder.
    pub fn log_to(mut self, log: impl Into<PathBuf>) -> Self {
        self.log = Some(log.into());
        self
    }

    /// Sets when the child ends.
    pub fn lifetime(mut self, lifetime: Lifetime) -> Self {
        self.lifetime = lifetime;
        self
    }

    /// The log file, when there is one.
    pub fn log(&self) -> Option<&Path> {
        self.log.as_deref()
    }

    /// Starts it. Blocks for the few milliseconds of a fork and does not wait for readiness.
    pub fn spawn(&self) -> Result<Child, ProcessError> {
        let command = self.command()?;
        let name = self.program.to_string_lossy().into_owned();
        // Only the wrapper can be missing here: it reports a missing program itself.
        let wrapper = command.get_program().to_string_lossy().into_owned();
        match spawner::spawn(command) {
            Ok(child) => Ok(Child::new(child, name, self.log.clone(), self.lifetime)),
            Err(source) => Err(ProcessError::Spawn {
                program: format!("{name} with {wrapper}"),
                source,
            }),
        }
    }

    fn command(&self) -> Result<Command, ProcessError> {
        let mut command = self.wrapped();
        command
            .arg(&self.program)
            .args(&self.arguments)
            .envs(&self.environment)
            .stdin(Stdio::null());
        if let Some(folder) = &self.folder {
            command.current_dir(folder);
        }
        let (output, errors) = self.output()?;
        command.stdout(output).stderr(errors);
        Ok(command)
    }

    /// Both wrappers exec the program, so the process id is the program's.
    fn wrapped(&self) -> Command {
        match self.lifetime {
            Lifetime::WithParent => {
                let mut command = Command::new("setpriv");
                command.args(["--pdeathsig", "KILL"]);
                // Ctrl-C at a terminal goes to the whole foreground group, but the parent decides in which order its
                // children stop.
                command.process_group(0);
                command
            }
            Lifetime::Detached => Command::new("setsid"),
        }
    }

    fn output(&self) -> Result<(Stdio, Stdio), ProcessError> {
        let Some(path) = &self.log else {
            return Ok((Stdio::null(), Stdio::null()));
        };
        let open = || -> std::io::Result<(File, File)> {
            if let Some(folder) = path.parent() {
                std::fs::create_dir_all(folder)?;
            }
            let file = OpenOptions::new().create(true).append(true).open(path)?;
            Ok((file.try_clone()?, file))
        };
        let (output, errors) = open().map_err(|source| ProcessError::Log {
            path: path.clone(),
            source,
        })?;
        Ok((output.into(), errors.into()))
    }
}
