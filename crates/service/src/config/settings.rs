//! What a service defines about its settings.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::error::Violations;

/// The settings of one service.
pub trait Settings: Default + Serialize + DeserializeOwned {
    /// The service's name: the prefix of its environment variables, in upper case, followed by `__`.
    const SERVICE: &'static str;

    /// The service's README: the source of the descriptions in the configuration file's schema.
    const REFERENCE: &'static str = "";

    /// The keys of durations that may be zero. Zero is refused for all others: it would be an endless loop or an instant
    /// timeout.
    const MAY_BE_ZERO: &'static [&'static str] = &[];

    /// Returns each rule that a value breaks, alone or together with others.
    fn validate(&self) -> Violations {
        Violations::default()
    }

    /// Returns each file named by a setting that is missing or does not parse. Only `--check-config` calls it: a service
    /// reports such a file when it loads it.
    fn check_files(&self) -> Violations {
        Violations::default()
    }
}
