//! A certificate authority of the tests' own, whose certificates are files.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use uuid::Uuid;

/// An authority and the folder of its files.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: PathBuf,
}

impl Authority {
    /// One that nobody trusts yet.
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(vec![]).unwrap();
        // Two of one name would be told apart by their signatures alone.
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let folder = testkit::workspace::target_dir()
            .unwrap()
            .join("testkit/authorities");
        let folder = folder.join(format!("{name}-{}", Uuid::new_v4().simple()));
        std::fs::create_dir_all(&folder).unwrap();
        let authority = Self { issuer, folder };
        std::fs::write(authority.file(), authority.issuer.pem()).unwrap();
        authority
    }

    /// Its own certificate.
    pub(crate) fn file(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    /// A certificate for these names, and its key.
    pub(crate) fn issue(&self, owner: &str, names: &[&str]) -> (PathBuf, PathBuf) {
        let key = KeyPair::generate().unwrap();
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let certificate = CertificateParams::new(names).unwrap();
        let certificate = certificate.signed_by(&key, &self.issuer).unwrap();
        let file = |kind| self.folder.join(format!("{owner}-{kind}.pem"));
        std::fs::write(file("certificate"), certificate.pem()).unwrap();
        std::fs::write(file("key"), key.serialize_pem()).unwrap();
        (file("certificate"), file("key"))
    }
}

/// One file with the contents of several, beside the first.
pub(crate) fn joined(files: &[&Path]) -> PathBuf {
    let path = files[0].with_extension("joined.pem");
    let contents: Vec<_> = files
        .iter()
        .map(|file| std::fs::read_to_string(file).unwrap())
        .collect();
    std::fs::write(&path, contents.concat()).unwrap();
    path
}
