//! Layered configuration: defaults, then a TOML file, then the environment.
//!
//! The known keys are those of the settings' default value, so a key that nothing reads is an error. All errors of all
//! layers are collected, each with its origin. What the values mean is checked by the service, in [`Settings`].

mod cli;
mod command_docs;
mod draft;
mod error;
mod keys;
mod origin;
mod record;
mod schema;
mod settings;
mod tree;
mod value;

use std::ffi::OsString;
use std::path::Path;

pub use cli::{CommandLine, ConfigCommand};
pub use command_docs::{CompletionsCommand, ManCommand};
pub use error::{ConfigError, ConfigErrors, Violation, Violations};
pub use origin::Origin;
pub use record::{RecordSettings, default_topic};
pub use schema::schema;
pub use settings::Settings;
pub use value::endpoints::Endpoints;
pub use value::list::List;
pub use value::secret::Secret;
pub use value::topic_name::TopicName;

use draft::Draft;

/// Reads and validates settings from `file` and from `environment`, pairs of name and value.
///
/// Variables that begin with `<SERVICE>__` are used; `__` also separates the levels of a key. A key with the suffix
/// `_file` names a file that holds the value.
///
/// # Errors
/// Every unknown key, every value of a wrong type and every broken rule.
pub fn load<S: Settings>(
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (impl Into<OsString>, impl Into<OsString>)>,
) -> Result<S, ConfigErrors> {
    let mut draft = Draft::<S>::read(file, environment);
    draft.check(S::validate);
    draft.finish().map(|loaded| loaded.settings)
}

#[cfg(test)]
mod tests;
