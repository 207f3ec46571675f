//! Names the caller of a connection by its client certificate, which the TLS handshake has verified.

use std::fmt::Write as _;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use sha2::{Digest as _, Sha256};
use webpki::EndEntityCert;

/// An extension of each request: the name of the caller by its certificate. It is the first URI of the certificate's
/// subject alternative names, else the first DNS name, else `sha256:` and the hash of the public key in hex.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerName(Arc<str>);

impl PeerName {
    /// The name of a verified certificate; none if it can't be parsed.
    pub(super) fn of_certificate(certificate: &CertificateDer<'_>) -> Option<Self> {
        let certificate = EndEntityCert::try_from(certificate).ok()?;
        let name = certificate
            .valid_uri_names()
            .next()
            .or_else(|| certificate.valid_dns_names().next());
        let name = name.map_or_else(|| hash(&certificate.subject_public_key_info()), str::to_owned);
        Some(Self(name.into()))
    }

    /// The name.
    pub fn name(&self) -> &Arc<str> {
        &self.0
    }
}

fn hash(key: &[u8]) -> String {
    let mut text = "sha256:".to_owned();
    for byte in Sha256::digest(key) {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, SanType};

    use super::*;

    fn name(key: &KeyPair, names: &[SanType]) -> String {
        let mut params = CertificateParams::default();
        params.subject_alt_names = names.to_vec();
        let certificate = params.self_signed(key).unwrap();
        let name = PeerName::of_certificate(certificate.der()).unwrap();
        name.name().to_string()
    }

    #[test]
    fn certificate_is_named_by_its_san_or_its_key() {
        let (key, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let dns = SanType::DnsName("ingester.example".try_into().unwrap());
        let uri = SanType::URI("spiffe://example/ingester".try_into().unwrap());
        let address = SanType::IpAddress([127, 0, 0, 1].into());
        assert_eq!(name(&key, std::slice::from_ref(&dns)), "ingester.example");
        assert_eq!(name(&key, &[dns, uri]), "spiffe://example/ingester");
        let of_key = name(&key, std::slice::from_ref(&address));
        assert!(of_key.starts_with("sha256:") && of_key.len() == 71, "{of_key}");
        assert_eq!(of_key, name(&key, &[]), "a renewed certificate of the same key");
        assert_ne!(of_key, name(&other, &[address]));
    }
}
