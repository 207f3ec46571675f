//! Why tokens and keys can't be loaded.

use thiserror::Error;

use super::jwt::KeyFileError;
use super::token_file::TokenFileError;

/// The files of the settings are not usable.
#[derive(Debug, Error)]
pub enum AuthFileError {
    /// The token file is not usable.
    #[error(transparent)]
    Tokens(#[from] TokenFileError),
    /// The file of the issuer's keys is not usable.
    #[error(transparent)]
    Keys(#[from] KeyFileError),
    /// There are no certificate authorities with which the issuer could be verified.
    #[error("failed to create a client for the issuer of auth.jwt")]
    Client(#[source] reqwest::Error),
}
