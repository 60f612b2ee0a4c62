//! Certificates that follow from the identity key, so that a node which starts again is found at its old addresses.
//!
//! The addresses of WebTransport and of WebRTC-direct carry their certificate's hash, and that is over the whole certificate, its signature
//! too. So the key is derived from the identity (HKDF with SHA-256, as go-libp2p does it for WebTransport), and its signature is the one of
//! RFC 6979, in which no chance plays a part. Nothing is kept on the disk, and nobody can lose it. Who has a certificate's key has not the
//! identity.
//!
//! What is written here is thereby part of every node's address: a change to it, or to how `rcgen` writes, is felt once by all
//! who have kept one. A test pins the bytes.

use libp2p::identity::Keypair;
use p256::{
    SecretKey,
    ecdsa::{Signature, SigningKey, signature::Signer},
    elliptic_curve::sec1::ToEncodedPoint,
    pkcs8::EncodePrivateKey,
};
use rcgen::{
    CertificateParams, DistinguishedName, DnType, PKCS_ECDSA_P256_SHA256, PublicKeyData,
    SerialNumber, SignatureAlgorithm,
};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;

/// Whose certificates they are; nobody compares it.
const NAME: &str = "selkie";
/// Keys that are tried: one in four thousand million is no point's.
const TRIES: u8 = 8;
/// Bytes of a certificate's number; RFC 5280 allows 20.
const SERIAL: usize = 16;

/// A certificate that is its own issuer, on P-256 since browsers take no other, and its key.
pub struct Certificate {
    /// X.509 in DER.
    pub der: Vec<u8>,
    /// PKCS #8 in DER.
    pub key: Vec<u8>,
}

/// The identity from which certificates are derived: this one, or where it is of a kind that allows none (RSA) one for this run.
pub fn root(identity: &Keypair) -> Keypair {
    match identity.derive_secret(b"") {
        Some(_) => identity.clone(),
        None => Keypair::generate_ed25519(),
    }
}

/// The certificate of this [`root`] for one purpose; the same each time. Its times are seconds since 1970.
///
/// # Errors
/// In words, where there can be none: the root is none, or a time is after the year 9999.
pub fn derive(root: &Keypair, purpose: &str, valid: [u64; 2]) -> Result<Certificate, String> {
    let secret = (0..TRIES).find_map(|attempt| {
        let domain = format!("selkie/certificate/{purpose}/{attempt}");
        SecretKey::from_slice(&root.derive_secret(domain.as_bytes())?).ok()
    });
    let secret = secret.ok_or("no key can be derived from the identity")?;
    let public = secret.public_key().to_encoded_point(false);
    let key = secret.to_pkcs8_der().map_err(|error| error.to_string())?;
    let owner = Owner {
        public: public.as_bytes().to_vec(),
        signer: secret.into(),
    };
    let params = params(&owner.public, valid)?;
    let certificate = params
        .self_signed(&owner)
        .map_err(|error| error.to_string())?;
    Ok(Certificate {
        der: certificate.der().to_vec(),
        key: key.as_bytes().to_vec(),
    })
}

fn params(public: &[u8], [from, until]: [u64; 2]) -> Result<CertificateParams, String> {
    let date = |seconds: u64| {
        let seconds = i64::try_from(seconds).map_err(|error| error.to_string())?;
        OffsetDateTime::from_unix_timestamp(seconds).map_err(|error| error.to_string())
    };
    let names = vec![NAME.to_owned()];
    let mut params = CertificateParams::new(names).map_err(|error| error.to_string())?;
    params.not_before = date(from)?;
    params.not_after = date(until)?;
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, NAME.to_owned());
    let serial: Vec<u8> = Sha256::digest(public).into_iter().take(SERIAL).collect();
    params.serial_number = Some(SerialNumber::from(serial));
    Ok(params)
}

/// Signs by RFC 6979.
struct Owner {
    signer: SigningKey,
    public: Vec<u8>,
}

impl PublicKeyData for Owner {
    fn der_bytes(&self) -> &[u8] {
        &self.public
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

impl rcgen::SigningKey for Owner {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        let signed: Result<Signature, _> = self.signer.try_sign(message);
        let signature = signed.map_err(|_| rcgen::Error::RemoteKeyError)?;
        Ok(signature.to_der().as_bytes().to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(byte: u8) -> Keypair {
        Keypair::ed25519_from_bytes([byte; 32]).expect("32 bytes")
    }

    fn hash(root: &Keypair, purpose: &str, valid: [u64; 2]) -> String {
        let certificate = derive(root, purpose, valid).expect("there is one");
        hex::encode(Sha256::digest(certificate.der))
    }

    #[test]
    fn it_is_the_same_each_time_and_another_for_all_else() {
        let first = hash(&identity(1), "a", [0, 9]);
        assert_eq!(hash(&identity(1), "a", [0, 9]), first);
        for other in [
            hash(&identity(2), "a", [0, 9]),
            hash(&identity(1), "b", [0, 9]),
            hash(&identity(1), "a", [1, 9]),
            hash(&identity(1), "a", [0, 8]),
        ] {
            assert_ne!(other, first);
        }
    }

    /// Addresses that are known out there have it in them: if this fails, they are void with the next version.
    #[test]
    fn its_bytes_are_what_they_were() {
        let pinned = hash(&identity(7), "test", [1_700_000_000, 1_701_209_600]);
        let known = "7069a1a45044d19069ffaf3b503385e2c62975ed93e25ff4de48263a50bdf57c";
        assert_eq!(pinned, known);
    }

    #[test]
    fn it_says_what_it_is_and_its_key_is_its_own() {
        let made = derive(&identity(3), "test", [1_700_000_000, 1_701_209_600]).expect("made");
        let (rest, read) = x509_parser::parse_x509_certificate(&made.der).expect("X.509");
        assert!(rest.is_empty());
        assert_eq!(read.validity().not_before.timestamp(), 1_700_000_000);
        assert_eq!(read.validity().not_after.timestamp(), 1_701_209_600);
        let key = <SecretKey as p256::pkcs8::DecodePrivateKey>::from_pkcs8_der(&made.key);
        let public = key.expect("PKCS #8").public_key().to_encoded_point(false);
        assert_eq!(
            read.public_key().subject_public_key.data.as_ref(),
            public.as_bytes()
        );
        // Signed by that key.
        use p256::ecdsa::{VerifyingKey, signature::Verifier};
        let signature = Signature::from_der(&read.signature_value.data).expect("a signature");
        let verifier = VerifyingKey::from_sec1_bytes(public.as_bytes()).expect("a key");
        let signed = read.tbs_certificate.as_ref();
        verifier.verify(signed, &signature).expect("it is right");
    }

    #[test]
    fn a_time_that_no_certificate_can_name_is_an_error() {
        assert!(derive(&identity(1), "test", [0, u64::MAX]).is_err());
        assert!(derive(&identity(1), "test", [0, 253_402_300_800]).is_err());
    }
}
