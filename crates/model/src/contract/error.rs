//! Why a contract can't be used. Each error names the place and the remedy.

use std::path::PathBuf;

/// A `.proto` file that is no contract.
#[derive(Debug, thiserror::Error)]
pub enum ContractError {
    /// The file or one of its imports can't be read or parsed.
    #[error("{0}")]
    Proto(String),
    /// The file has no message of that name.
    #[error("{file} has no message `{message}`; messages with the option `record`: {found}")]
    NoMessage {
        /// The file.
        file: PathBuf,
        /// The message's name in the settings.
        message: String,
        /// The names of those that could be meant, or "none".
        found: String,
    },
    /// The file does not have exactly one message with the option `record`, and the settings name none.
    #[error(
        "{file} has {count} messages with the option `record`; set `record.message` to one of them, or add \
         `option (affluent.options.v1.record) = {{ resource: \"…\" key: \"…\" }};` to the message"
    )]
    NotOneMessage {
        /// The file.
        file: PathBuf,
        /// The number of such messages.
        count: usize,
    },
    /// The message can't be a record.
    #[error("{place}: {subject}: {problem}; {remedy}")]
    Unsupported {
        /// The file and the line, such as `orders.proto:12`.
        place: String,
        /// The message or the field, such as "field `total`".
        subject: String,
        /// What is wrong.
        problem: String,
        /// What to do instead.
        remedy: String,
    },
}
