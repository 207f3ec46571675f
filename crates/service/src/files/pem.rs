//! Certificates and private keys from PEM files. The content is kept, so that a reload can detect a change.
//!
//! Configures no TLS and opens no connection.

use std::path::{Path, PathBuf};

use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, pem};
use rustls::sign::CertifiedKey;
use thiserror::Error;

use crate::config::Violations;

/// A PEM file is not usable. No message quotes its content.
#[derive(Debug, Error)]
pub enum PemError {
    /// Reading it failed.
    #[error("failed to read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        #[source]
        source: std::io::Error,
    },
    /// It has no certificate, or an invalid one.
    #[error("{} has no valid PEM certificate", path.display())]
    Certificates {
        /// The file.
        path: PathBuf,
        /// The parser's error.
        #[source]
        source: pem::Error,
    },
    /// It has no private key.
    #[error("{} has no PEM private key", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// The parser's error.
        #[source]
        source: pem::Error,
    },
    /// It has no certificate revocation list, or an invalid one.
    #[error("{} has no valid PEM certificate revocation list", path.display())]
    RevocationLists {
        /// The file.
        path: PathBuf,
        /// The parser's error.
        #[source]
        source: pem::Error,
    },
    /// None of its certificates can be a trust anchor.
    #[error("{} has no certificate of a certificate authority", .0.display())]
    Authorities(PathBuf),
    /// The private key is not that of the certificate.
    #[error("{} is not the private key of {}", key.display(), certificate.display())]
    Mismatch {
        /// The file of the certificate.
        certificate: PathBuf,
        /// The file of the key.
        key: PathBuf,
        /// The error of rustls.
        #[source]
        source: rustls::Error,
    },
}

/// The content of a PEM file. It may be a private key, so it has no `Debug`.
#[derive(PartialEq, Eq)]
pub struct PemFile {
    path: PathBuf,
    content: Vec<u8>,
}

impl PemFile {
    /// Reads a file.
    ///
    /// # Errors
    /// [`PemError::Read`].
    pub fn read(path: &Path) -> Result<Self, PemError> {
        let path = path.to_owned();
        match std::fs::read(&path) {
            Ok(content) => Ok(Self { path, content }),
            Err(source) => Err(PemError::Read { path, source }),
        }
    }

    /// Every certificate in the file, in order, at least one.
    ///
    /// # Errors
    /// [`PemError::Certificates`].
    pub fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, PemError> {
        self.items().map_err(|source| PemError::Certificates {
            path: self.path.clone(),
            source,
        })
    }

    /// Every certificate revocation list in the file, at least one.
    ///
    /// # Errors
    /// [`PemError::RevocationLists`].
    pub fn revocation_lists(&self) -> Result<Vec<CertificateRevocationListDer<'static>>, PemError> {
        self.items().map_err(|source| PemError::RevocationLists {
            path: self.path.clone(),
            source,
        })
    }

    fn items<T: PemObject>(&self) -> Result<Vec<T>, pem::Error> {
        let items: Vec<_> = T::pem_slice_iter(&self.content).collect::<Result<_, _>>()?;
        if items.is_empty() {
            return Err(pem::Error::NoItemsFound);
        }
        Ok(items)
    }

    /// The first private key in the file.
    ///
    /// # Errors
    /// [`PemError::Key`].
    pub fn key(&self) -> Result<PrivateKeyDer<'static>, PemError> {
        PrivateKeyDer::from_pem_slice(&self.content).map_err(|source| PemError::Key {
            path: self.path.clone(),
            source,
        })
    }

    /// The certificates of the file as trust anchors. Skips unusable ones, which a system's bundle may have.
    ///
    /// # Errors
    /// [`PemError::Certificates`], and [`PemError::Authorities`] if none is usable.
    pub fn authorities(&self) -> Result<RootCertStore, PemError> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(self.certificates()?);
        if roots.is_empty() {
            return Err(PemError::Authorities(self.path.clone()));
        }
        Ok(roots)
    }
}

/// Adds a violation if the file at `path` has no certificate of a certificate authority.
pub fn check_authorities(violations: &mut Violations, key: &str, path: &Path) {
    violations.check(key, PemFile::read(path).and_then(|file| file.authorities()));
}

/// Adds a violation if the file at `path` has no certificate revocation list.
pub fn check_revocation_lists(violations: &mut Violations, key: &str, path: &Path) {
    violations.check(key, PemFile::read(path).and_then(|file| file.revocation_lists()));
}

/// Adds a violation for each of the two files that does not parse, and if they don't belong together. Each file is given
/// with the key of its path.
pub fn check_key_pair(violations: &mut Violations, certificate: (&str, &Path), key: (&str, &Path)) {
    let chain = PemFile::read(certificate.1).and_then(|file| file.certificates());
    let private = PemFile::read(key.1).and_then(|file| file.key());
    match (chain, private) {
        (Ok(chain), Ok(private)) => {
            let pair = CertifiedKey::from_der(chain, private, &aws_lc_rs::default_provider());
            let pair = pair.map_err(|source| PemError::Mismatch {
                certificate: certificate.1.to_owned(),
                key: key.1.to_owned(),
                source,
            });
            violations.check(key.0, pair);
        }
        (chain, private) => {
            violations.check(certificate.0, chain);
            violations.check(key.0, private);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use tempfile::NamedTempFile;

    use super::*;

    /// Five bytes encoded as PEM; only TLS looks at the content.
    fn encoded(label: &str) -> String {
        format!("-----BEGIN {label}-----\nAQIDBAU=\n-----END {label}-----\n")
    }

    fn file(content: &str) -> NamedTempFile {
        let mut file = NamedTempFile::new().unwrap();
        file.write_all(content.as_bytes()).unwrap();
        file
    }

    fn read(file: &NamedTempFile) -> PemFile {
        PemFile::read(file.path()).unwrap()
    }

    #[test]
    fn certificates_and_key_are_read_from_one_file() {
        let both = encoded("CERTIFICATE") + &encoded("PRIVATE KEY") + &encoded("CERTIFICATE");
        let file = file(&both);
        let certificates = read(&file).certificates().unwrap();
        assert_eq!(certificates.len(), 2);
        assert_eq!(certificates[0].as_ref(), [1, 2, 3, 4, 5]);
        assert_eq!(read(&file).key().unwrap().secret_der(), [1, 2, 3, 4, 5]);
    }

    #[test]
    fn error_names_the_file() {
        let absent = PemFile::read(Path::new("/no/such.pem")).err().unwrap();
        assert_eq!(absent.to_string(), "failed to read /no/such.pem");
        let empty = file("junk");
        let name = empty.path().display();
        let certificates = read(&empty).certificates().unwrap_err();
        assert_eq!(
            certificates.to_string(),
            format!("{name} has no valid PEM certificate")
        );
        let key = read(&empty).key().unwrap_err();
        assert_eq!(key.to_string(), format!("{name} has no PEM private key"));
        let unusable = file(&encoded("CERTIFICATE"));
        let authorities = read(&unusable).authorities().unwrap_err();
        assert!(matches!(authorities, PemError::Authorities(_)), "{authorities}");
        let lists = read(&unusable).revocation_lists().unwrap_err();
        assert!(matches!(lists, PemError::RevocationLists { .. }), "{lists}");
    }

    #[test]
    fn changed_file_is_not_equal() {
        let file = file("a");
        let before = read(&file);
        assert!(before == read(&file));
        std::fs::write(file.path(), "b").unwrap();
        assert!(before != read(&file));
    }

    #[test]
    fn key_pair_check_reports_each_file_and_a_mismatch() {
        let pair = || rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let (ours, other) = (pair(), pair());
        let certificate = file(&ours.cert.pem());
        let (key, other_key) = (
            file(&ours.signing_key.serialize_pem()),
            file(&other.signing_key.serialize_pem()),
        );
        let check = |certificate: &Path, key: &Path| {
            let mut violations = Violations::default();
            check_key_pair(
                &mut violations,
                ("tls.certificate", certificate),
                ("tls.key", key),
            );
            let keys = violations.iter().map(|violation| violation.key.clone());
            keys.collect::<Vec<_>>()
        };
        assert!(check(certificate.path(), key.path()).is_empty());
        assert_eq!(check(certificate.path(), other_key.path()), ["tls.key"]);
        let absent = Path::new("/no/such.pem");
        assert_eq!(check(absent, absent), ["tls.certificate", "tls.key"]);
    }
}
