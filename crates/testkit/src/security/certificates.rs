//! A certificate authority that issues certificates as files. It panics where a file can't be written.

use std::fs::File;
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use uuid::Uuid;

use crate::servers::pool;
use crate::token_key::TokenKey;
use crate::workspace;

/// A certificate authority and the folder of its files.
pub struct CertificateAuthority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: PathBuf,
}

impl CertificateAuthority {
    /// Creates an authority.
    pub fn new(name: &str) -> Self {
        let folder = workspace::target_dir()
            .expect("tests run in the workspace")
            .join("testkit/authorities");
        Self::in_folder(name, folder.join(format!("{name}-{}", Uuid::new_v4().simple())))
    }

    /// Opens or creates the authority of this name that all test processes of a run share. They share servers with its
    /// certificates.
    pub fn shared(name: &str) -> Self {
        match pool::socket() {
            Some(socket) => Self::in_folder(name, socket.with_file_name(format!("authority-{name}"))),
            None => Self::new(name),
        }
    }

    fn in_folder(name: &str, folder: PathBuf) -> Self {
        std::fs::create_dir_all(&folder).expect("the target folder is writable");
        let _lock = lock(&folder);
        let key = folder.join("ca-key.pem");
        let pair = if key.exists() {
            KeyPair::from_pem(&read(&key)).expect("the key is whole")
        } else {
            KeyPair::generate().expect("a key can be generated")
        };
        let mut params = CertificateParams::new(vec![]).expect("no names are valid names");
        // Without a name, two authorities would differ in their signatures only.
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, pair).expect("the key can sign");
        let authority = Self { issuer, folder };
        if !key.exists() {
            write(&authority.file(), &authority.issuer.pem());
            write(&key, &authority.issuer.key().serialize_pem());
        }
        authority
    }

    /// Opens or creates the key of a token endpoint, and the file with its public key.
    pub fn token_key(&self) -> (TokenKey, PathBuf) {
        let _lock = lock(&self.folder);
        TokenKey::open(&self.folder)
    }

    /// Returns the path of the authority's own certificate.
    pub fn file(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    /// Issues a certificate at the first call with this owner. Later calls return the same.
    pub fn issue_once(&self, owner: &str, names: &[&str]) -> (PathBuf, PathBuf) {
        let _lock = lock(&self.folder);
        let file = |kind| self.folder.join(format!("{owner}-{kind}.pem"));
        if file("key").exists() {
            (file("certificate"), file("key"))
        } else {
            self.issue(owner, names)
        }
    }

    /// Issues a certificate with the subject `CN=owner` for these names. Returns its path and the path of its key. Replaces
    /// an earlier one of this owner.
    pub fn issue(&self, owner: &str, names: &[&str]) -> (PathBuf, PathBuf) {
        self.issue_in(owner, owner, names)
    }

    /// As [`issue`](Self::issue), but in files of the name `file`, so that the owner's present ones stay.
    pub fn issue_in(&self, file: &str, owner: &str, names: &[&str]) -> (PathBuf, PathBuf) {
        let key = KeyPair::generate().expect("a key can be generated");
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut certificate = CertificateParams::new(names).expect("the names are valid");
        certificate.distinguished_name.push(DnType::CommonName, owner);
        let certificate = certificate
            .signed_by(&key, &self.issuer)
            .expect("the authority can sign");
        let path = |kind| self.folder.join(format!("{file}-{kind}.pem"));
        write(&path("certificate"), &certificate.pem());
        write(&path("key"), &key.serialize_pem());
        (path("certificate"), path("key"))
    }
}

/// Locks a folder, so that one test process at a time creates files in it.
fn lock(folder: &Path) -> File {
    let lock = File::create(folder.join("lock")).expect("the folder is writable");
    lock.lock().expect("the file can be locked");
    lock
}

/// Concatenates files into one in the folder of the first.
pub fn concatenate_pem(files: &[&Path]) -> PathBuf {
    let path = files[0].with_extension("joined.pem");
    let contents: Vec<_> = files.iter().map(|file| read(file)).collect();
    let contents = contents.concat();
    // A server of another test process may read the file now.
    if std::fs::read_to_string(&path).ok().as_deref() != Some(&contents) {
        write(&path, &contents);
    }
    path
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).expect("the file is readable")
}

fn write(path: &Path, text: &str) {
    std::fs::write(path, text).expect("the folder is writable");
}
