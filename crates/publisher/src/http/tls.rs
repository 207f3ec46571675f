//! The TLS configuration of the API: certificate, key, client authorities and their revocation lists, reloaded when their
//! files change.
//!
//! Checks no tokens.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use service::files::pem::{PemError, PemFile};
use thiserror::Error;

use crate::config::TlsSettings;

/// The TLS files are not usable.
#[derive(Debug, Error)]
pub enum TlsError {
    /// A file can't be read or parsed.
    #[error(transparent)]
    File(#[from] PemError),
    /// The key does not match the certificate, or rustls supports neither.
    #[error("failed to use `tls.certificate_path` with `tls.key_path`")]
    KeyPair(#[source] rustls::Error),
    /// The client authorities are not usable.
    #[error("failed to use the authorities of `tls.client_ca_path` with `tls.client_crl_path`")]
    Authorities(#[from] VerifierBuilderError),
}

/// The current TLS configuration.
pub struct Tls {
    paths: TlsPaths,
    current: Mutex<LoadedTls>,
}

struct TlsPaths {
    certificate: PathBuf,
    key: PathBuf,
    client_ca: Option<PathBuf>,
    client_crl: Option<PathBuf>,
}

struct LoadedTls {
    files: TlsFiles,
    config: Arc<ServerConfig>,
}

#[derive(PartialEq, Eq)]
struct TlsFiles {
    certificate: PemFile,
    key: PemFile,
    client_ca: Option<PemFile>,
    client_crl: Option<PemFile>,
}

impl Tls {
    /// Reads the files; none if no certificate is configured.
    ///
    /// # Errors
    /// Each [`TlsError`].
    pub fn load(settings: &TlsSettings) -> Result<Option<Self>, TlsError> {
        let (Some(certificate), Some(key)) = (&settings.certificate_path, &settings.key_path) else {
            return Ok(None);
        };
        let paths = TlsPaths {
            certificate: certificate.clone(),
            key: key.clone(),
            client_ca: settings.client_ca_path.clone(),
            client_crl: settings.client_crl_path.clone(),
        };
        let files = paths.read()?;
        let config = files.config()?;
        Ok(Some(Self {
            paths,
            current: Mutex::new(LoadedTls { files, config }),
        }))
    }

    /// Reads the files again and returns whether they have changed. After an error the previous ones stay in use.
    ///
    /// # Errors
    /// Each [`TlsError`].
    pub fn reload(&self) -> Result<bool, TlsError> {
        let files = self.paths.read()?;
        if self.lock().files == files {
            return Ok(false);
        }
        let config = files.config()?;
        *self.lock() = LoadedTls { files, config };
        Ok(true)
    }

    /// The configuration for the next connection.
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.lock().config)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, LoadedTls> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TlsPaths {
    fn read(&self) -> Result<TlsFiles, PemError> {
        Ok(TlsFiles {
            certificate: PemFile::read(&self.certificate)?,
            key: PemFile::read(&self.key)?,
            client_ca: self.client_ca.as_deref().map(PemFile::read).transpose()?,
            client_crl: self.client_crl.as_deref().map(PemFile::read).transpose()?,
        })
    }
}

impl TlsFiles {
    fn config(&self) -> Result<Arc<ServerConfig>, TlsError> {
        // Explicit, because the process's default provider depends on other crates.
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(TlsError::KeyPair)?;
        let builder = match &self.client_ca {
            Some(file) => {
                let authorities = Arc::new(file.authorities()?);
                let mut verifier = WebPkiClientVerifier::builder_with_provider(authorities, provider);
                if let Some(lists) = &self.client_crl {
                    // Authorities between a root and the caller are not checked: they seldom publish lists.
                    verifier = verifier
                        .with_crls(lists.revocation_lists()?)
                        .only_check_end_entity_revocation();
                }
                builder.with_client_cert_verifier(verifier.build()?)
            }
            None => builder.with_no_client_auth(),
        };
        let mut config = builder
            .with_single_cert(self.certificate.certificates()?, self.key.key()?)
            .map_err(TlsError::KeyPair)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}
