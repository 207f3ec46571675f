//! Certificates and keys from PEM files, for whoever speaks TLS. What was read is kept, so that a file can be read
//! again and compared; nothing here configures TLS or opens a connection.

use std::path::{Path, PathBuf};

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem};
use thiserror::Error;

/// A file is not what TLS needs. No text here quotes what is in it.
#[derive(Debug, Error)]
pub enum PemError {
    /// It can't be read.
    #[error("read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The operating system's answer.
        #[source]
        source: std::io::Error,
    },
    /// It holds no certificate, or one that is broken.
    #[error("{} holds no certificates in PEM", path.display())]
    Certificates {
        /// The file.
        path: PathBuf,
        /// The parser's answer.
        #[source]
        source: pem::Error,
    },
    /// It holds no private key.
    #[error("{} holds no private key in PEM", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// The parser's answer.
        #[source]
        source: pem::Error,
    },
    /// None of its certificates can be an authority.
    #[error("{} holds no certificate of an authority", .0.display())]
    Authorities(PathBuf),
}

/// A file, as it was when it was read. It may hold a key: it has no `Debug`.
#[derive(PartialEq, Eq)]
pub struct PemFile {
    path: PathBuf,
    content: Vec<u8>,
}

impl PemFile {
    /// Reads it.
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

    /// Every certificate in it, in order; there is one at least.
    ///
    /// # Errors
    /// [`PemError::Certificates`].
    pub fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, PemError> {
        let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&self.content).collect();
        let some = read.and_then(|read| {
            if read.is_empty() {
                Err(pem::Error::NoItemsFound)
            } else {
                Ok(read)
            }
        });
        some.map_err(|source| PemError::Certificates {
            path: self.path.clone(),
            source,
        })
    }

    /// The first private key in it.
    ///
    /// # Errors
    /// [`PemError::Key`].
    pub fn key(&self) -> Result<PrivateKeyDer<'static>, PemError> {
        PrivateKeyDer::from_pem_slice(&self.content).map_err(|source| PemError::Key {
            path: self.path.clone(),
            source,
        })
    }

    /// Its certificates, to be trusted to sign others. A system's bundle may hold some that are of no use: they are
    /// passed over.
    ///
    /// # Errors
    /// [`PemError::Certificates`], and [`PemError::Authorities`] when none is left.
    pub fn authorities(&self) -> Result<RootCertStore, PemError> {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(self.certificates()?);
        if roots.is_empty() {
            return Err(PemError::Authorities(self.path.clone()));
        }
        Ok(roots)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use tempfile::NamedTempFile;

    use super::*;

    /// Five bytes in the armour of PEM; nobody looks at them before TLS does.
    fn armoured(label: &str) -> String {
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
    fn certificates_and_a_key_are_found_among_others() {
        let both = armoured("CERTIFICATE") + &armoured("PRIVATE KEY") + &armoured("CERTIFICATE");
        let file = file(&both);
        let certificates = read(&file).certificates().unwrap();
        assert_eq!(certificates.len(), 2);
        assert_eq!(certificates[0].as_ref(), [1, 2, 3, 4, 5]);
        assert_eq!(read(&file).key().unwrap().secret_der(), [1, 2, 3, 4, 5]);
    }

    #[test]
    fn what_is_not_there_is_told_with_the_file() {
        let absent = PemFile::read(Path::new("/no/such.pem")).err().unwrap();
        assert_eq!(absent.to_string(), "read /no/such.pem");
        let empty = file("junk");
        let name = empty.path().display();
        let certificates = read(&empty).certificates().unwrap_err();
        assert_eq!(
            certificates.to_string(),
            format!("{name} holds no certificates in PEM")
        );
        let key = read(&empty).key().unwrap_err();
        assert_eq!(key.to_string(), format!("{name} holds no private key in PEM"));
        let odd = file(&armoured("CERTIFICATE"));
        let authorities = read(&odd).authorities().unwrap_err();
        assert!(matches!(authorities, PemError::Authorities(_)), "{authorities}");
    }

    #[test]
    fn a_file_that_has_changed_is_another() {
        let file = file("a");
        let before = read(&file);
        assert!(before == read(&file));
        std::fs::write(file.path(), "b").unwrap();
        assert!(before != read(&file));
    }
}
