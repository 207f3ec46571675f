//! TLS for the door: certificate, key and the authorities of callers, read from files that may change while the
//! process runs. It checks no tokens and speaks no HTTP.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use thiserror::Error;

use crate::settings::TlsSettings;

/// The files don't make a TLS server.
#[derive(Debug, Error)]
pub enum TlsError {
    /// One can't be read.
    #[error("read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The operating system's answer.
        #[source]
        source: std::io::Error,
    },
    /// One holds nothing in PEM of the kind it should.
    #[error("{} holds no PEM of that kind", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// The parser's answer, which quotes nothing.
        #[source]
        source: rustls::pki_types::pem::Error,
    },
    /// They don't go together.
    #[error("use the certificate with its key")]
    Together(#[source] rustls::Error),
    /// The authorities are none.
    #[error("use {} as authorities", .0.display())]
    Authorities(PathBuf),
}

/// What TLS is configured to be, as the files were when they were last good.
pub struct Tls {
    settings: Paths,
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
    certificate: Vec<u8>,
    key: Vec<u8>,
    client_ca: Option<Vec<u8>>,
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
        let config = paths.config(&files)?;
        Ok(Some(Self {
            settings: paths,
            current: Mutex::new(Current { files, config }),
        }))
    }

    /// Reads the files again; says whether they have changed. On an error the ones before stay in use.
    ///
    /// # Errors
    /// Each [`TlsError`].
    pub fn reload(&self) -> Result<bool, TlsError> {
        let files = self.settings.read()?;
        if self.lock().files == files {
            return Ok(false);
        }
        let config = self.settings.config(&files)?;
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
    fn read(&self) -> Result<Files, TlsError> {
        Ok(Files {
            certificate: read(&self.certificate)?,
            key: read(&self.key)?,
            client_ca: self.client_ca.as_ref().map(read).transpose()?,
        })
    }

    fn config(&self, files: &Files) -> Result<Arc<ServerConfig>, TlsError> {
        let pem = |path: &PathBuf, source| TlsError::Pem {
            path: path.clone(),
            source,
        };
        let chain = certificates(&files.certificate).map_err(|source| pem(&self.certificate, source))?;
        let key = PrivateKeyDer::from_pem_slice(&files.key).map_err(|source| pem(&self.key, source))?;
        // Another crate of the process may have installed another provider, or none.
        let provider = Arc::new(aws_lc_rs::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Together)?;
        let builder = match (&self.client_ca, &files.client_ca) {
            (Some(path), Some(file)) => {
                let authorities = certificates(file).map_err(|source| pem(path, source))?;
                builder.with_client_cert_verifier(verifier(path, authorities, provider)?)
            }
            _ => builder.with_no_client_auth(),
        };
        let mut config = builder.with_single_cert(chain, key).map_err(TlsError::Together)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

fn read(path: &PathBuf) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|source| TlsError::Read {
        path: path.clone(),
        source,
    })
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, rustls::pki_types::pem::Error> {
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>()?;
    if certificates.is_empty() {
        return Err(rustls::pki_types::pem::Error::NoItemsFound);
    }
    Ok(certificates)
}

fn verifier(
    path: &Path,
    authorities: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn rustls::server::danger::ClientCertVerifier>, TlsError> {
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        roots
            .add(authority)
            .map_err(|_| TlsError::Authorities(path.to_owned()))?;
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .build()
        .map_err(|_| TlsError::Authorities(path.to_owned()))
}
