//! TLS for the door: certificate, key and the authorities of callers, read from files that may change while the
//! process runs. It checks no tokens and speaks no HTTP.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::server::{VerifierBuilderError, WebPkiClientVerifier};
use service::pem::{PemError, PemFile};
use thiserror::Error;

use crate::settings::TlsSettings;

/// The files don't make a TLS server.
#[derive(Debug, Error)]
pub enum TlsError {
    /// One is not what it should be.
    #[error(transparent)]
    File(#[from] PemError),
    /// They don't go together.
    #[error("use the certificate with its key")]
    Together(#[source] rustls::Error),
    /// The authorities are none.
    #[error("use the authorities of callers")]
    Authorities(#[from] VerifierBuilderError),
}

/// What TLS is configured to be, as the files were when they were last good.
pub struct Tls {
    paths: Paths,
    current: Mutex<Current>,
}

struct Paths {
    certificate: PathBuf,
    key: PathBuf,
    client_ca: Option<PathBuf>,
}

struct Current {
    files: Files,
    config: Arc<ServerConfig>,
}

#[derive(PartialEq, Eq)]
struct Files {
    certificate: PemFile,
    key: PemFile,
    client_ca: Option<PemFile>,
}

impl Tls {
    /// Reads the files; none without a certificate.
    ///
    /// # Errors
    /// Each [`TlsError`].
    pub fn load(settings: &TlsSettings) -> Result<Option<Self>, TlsError> {
        let (Some(certificate), Some(key)) = (&settings.certificate_path, &settings.key_path) else {
            return Ok(None);
        };
        let paths = Paths {
            certificate: certificate.clone(),
            key: key.clone(),
            client_ca: settings.client_ca_path.clone(),
        };
        let files = paths.read()?;
        let config = files.config()?;
        Ok(Some(Self {
            paths,
            current: Mutex::new(Current { files, config }),
        }))
    }

    /// Reads the files again; says whether they have changed. On an error the ones before stay in use.
    ///
    /// # Errors
    /// Each [`TlsError`].
    pub fn reload(&self) -> Result<bool, TlsError> {
        let files = self.paths.read()?;
        if self.lock().files == files {
            return Ok(false);
        }
        let config = files.config()?;
        *self.lock() = Current { files, config };
        Ok(true)
    }

    /// For the next connection.
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.lock().config)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Paths {
    fn read(&self) -> Result<Files, PemError> {
        Ok(Files {
            certificate: PemFile::read(&self.certificate)?,
            key: PemFile::read(&self.key)?,
            client_ca: self.client_ca.as_deref().map(PemFile::read).transpose()?,
        })
    }
}

impl Files {
    fn config(&self) -> Result<Arc<ServerConfig>, TlsError> {
        // Another crate of the process may have installed another provider, or none.
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Together)?;
        let builder = match &self.client_ca {
            Some(file) => {
                let authorities = Arc::new(file.authorities()?);
                let verifier = WebPkiClientVerifier::builder_with_provider(authorities, provider);
                builder.with_client_cert_verifier(verifier.build()?)
            }
            None => builder.with_no_client_auth(),
        };
        let mut config = builder
            .with_single_cert(self.certificate.certificates()?, self.key.key()?)
            .map_err(TlsError::Together)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}
