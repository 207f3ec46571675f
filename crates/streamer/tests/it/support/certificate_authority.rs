//! A certificate authority that issues certificates as files.

use std::fs::File;
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use testkit::servers::pool;
use uuid::Uuid;

/// A certificate authority and the folder of its files.
pub(crate) struct CertificateAuthority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: PathBuf,
}

impl CertificateAuthority {
    /// Creates an authority.
    pub(crate) fn new(name: &str) -> Self {
        let folder = testkit::workspace::target_dir()
            .unwrap()
            .join("testkit/authorities");
        Self::in_folder(name, folder.join(format!("{name}-{}", Uuid::new_v4().simple())))
    }

    /// Opens or creates the authority of this name that all test processes of a run share. They share servers with its
    /// certificates.
    pub(crate) fn shared(name: &str) -> Self {
        match pool::socket() {
            Some(socket) => Self::in_folder(name, socket.with_file_name(format!("authority-{name}"))),
            None => Self::new(name),
        }
    }

    fn in_folder(name: &str, folder: PathBuf) -> Self {
        std::fs::create_dir_all(&folder).unwrap();
        let _lock = lock(&folder);
        let key = folder.join("ca-key.pem");
        let pair = if key.exists() {
            KeyPair::from_pem(&std::fs::read_to_string(&key).unwrap()).unwrap()
        } else {
            KeyPair::generate().unwrap()
        };
        let mut params = CertificateParams::new(vec![]).unwrap();
        // Without a name, two authorities would differ in their signatures only.
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, pair).unwrap();
        let authority = Self { issuer, folder };
        if !key.exists() {
            std::fs::write(authority.file(), authority.issuer.pem()).unwrap();
            std::fs::write(key, authority.issuer.key().serialize_pem()).unwrap();
        }
        authority
    }

    /// Returns the path of the authority's own certificate.
    pub(crate) fn file(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    /// Issues a certificate at the first call with this owner. Later calls return the same.
    pub(crate) fn issue_once(&self, owner: &str, names: &[&str]) -> (PathBuf, PathBuf) {
        let _lock = lock(&self.folder);
        let file = |kind| self.folder.join(format!("{owner}-{kind}.pem"));
        if file("key").exists() {
            (file("certificate"), file("key"))
        } else {
            self.issue(owner, names)
        }
    }

    /// Issues a certificate for these names. Returns its path and the path of its key.
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

/// Locks a folder, so that one test process at a time creates files in it.
fn lock(folder: &Path) -> File {
    let lock = File::create(folder.join("lock")).unwrap();
    lock.lock().unwrap();
    lock
}

/// Concatenates files into one in the folder of the first.
pub(crate) fn concatenate_pem(files: &[&Path]) -> PathBuf {
    let path = files[0].with_extension("joined.pem");
    let contents: Vec<_> = files
        .iter()
        .map(|file| std::fs::read_to_string(file).unwrap())
        .collect();
    let contents = contents.concat();
    // A server of another test process may read the file now.
    if std::fs::read_to_string(&path).ok().as_deref() != Some(&contents) {
        std::fs::write(&path, contents).unwrap();
    }
    path
}
