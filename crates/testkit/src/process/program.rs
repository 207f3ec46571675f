//! What to run: program, arguments, environment, log file, and how long it may live.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{Child, ProcessError, spawner};

/// How long a child lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Lifetime {
    /// It is killed when its [`Child`] is dropped and when this process ends, even by `SIGKILL`.
    #[default]
    WithParent,
    /// It runs on in a session of its own, until someone stops it by its process id.
    Detached,
}

/// A program to be started, any number of times.
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
    /// A program by name (looked for in `PATH`) or path, without arguments, its output discarded.
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
    #[must_use]
    pub fn arg(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Adds several arguments.
    #[must_use]
    pub fn args<A: Into<OsString>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Sets one variable of the environment, which is otherwise this process's.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.environment.insert(name.into(), value.into());
        self
    }

    /// Sets the working folder.
    #[must_use]
    pub fn in_folder(mut self, folder: impl Into<PathBuf>) -> Self {
        self.folder = Some(folder.into());
        self
    }

    /// Appends standard output and standard error to a file, which is created with its folder if absent.
    #[must_use]
    pub fn log_to(mut self, log: impl Into<PathBuf>) -> Self {
        self.log = Some(log.into());
        self
    }

    /// Sets how long the child lives.
    #[must_use]
    pub fn lifetime(mut self, lifetime: Lifetime) -> Self {
        self.lifetime = lifetime;
        self
    }

    /// The log file, when there is one.
    #[must_use]
    pub fn log(&self) -> Option<&Path> {
        self.log.as_deref()
    }

    /// Starts it. Blocks for the few milliseconds that a fork takes, and does not wait for readiness.
    ///
    /// # Errors
    /// When the log cannot be opened or the program cannot be started.
    pub fn spawn(&self) -> Result<Child, ProcessError> {
        let command = self.command()?;
        let child = spawner::spawn(command).map_err(|source| self.not_spawned(source))?;
        Ok(Child::new(child, self.name(), self.log.clone(), self.lifetime))
    }

    /// What the operating system could not start is the wrapper; an absent program is found out by that one.
    fn not_spawned(&self, source: std::io::Error) -> ProcessError {
        let wrapper = self.wrapped().get_program().to_string_lossy().into_owned();
        ProcessError::Spawn {
            program: format!("{} through {wrapper}", self.name()),
            source,
        }
    }

    fn name(&self) -> String {
        self.program.to_string_lossy().into_owned()
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

    /// Both wrappers replace themselves by the program, so the process id is the program's own.
    fn wrapped(&self) -> Command {
        match self.lifetime {
            Lifetime::WithParent => {
                let mut command = Command::new("setpriv");
                command.args(["--pdeathsig", "KILL"]);
                // Ctrl-C at a terminal goes to the whole foreground group. The parent alone decides in which
                // order its children stop.
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
