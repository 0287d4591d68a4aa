//! Signatures of tokens by `ring`, which is linked anyway: nothing else is trusted with them.

use std::sync::Once;

use jsonwebtoken::crypto::{CryptoProvider, JwtSigner, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{Error, ErrorKind};
use jsonwebtoken::signature::{self, Verifier};
use jsonwebtoken::{Algorithm, DecodingKey, DecodingKeyKind, EncodingKey};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384,
    RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512,
    RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm,
};
use ring::{error::Unspecified, hmac};

static PROVIDER: CryptoProvider = CryptoProvider {
    signer_factory: no_signer,
    verifier_factory: verifier,
    // Keys are read, never made into key sets.
    key_utils: KeyUtils::new_unimplemented(),
};

/// Makes `jsonwebtoken` use `ring`. A program that embeds the gateway may have chosen before.
pub(super) fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        if PROVIDER.install_default().is_err() {
            tracing::debug!("tokens are checked by the cryptography that the embedding program chose");
        }
    });
}

/// Nothing is signed here.
fn no_signer(_: &Algorithm, _: &EncodingKey) -> Result<Box<dyn JwtSigner>, Error> {
    Err(ErrorKind::UnsupportedAlgorithm.into())
}

fn verifier(algorithm: &Algorithm, key: &DecodingKey) -> Result<Box<dyn JwtVerifier>, Error> {
    if key.family() == algorithm.family() {
        Ok(Box::new(RingVerifier { algorithm: *algorithm, key: key.clone() }))
    } else {
        Err(ErrorKind::InvalidAlgorithm.into())
    }
}

struct RingVerifier {
    algorithm: Algorithm,
    key: DecodingKey,
}

impl JwtVerifier for RingVerifier {
    fn algorithm(&self) -> Algorithm {
        self.algorithm
    }
}

impl Verifier<Vec<u8>> for RingVerifier {
    fn verify(&self, message: &[u8], signed: &Vec<u8>) -> Result<(), signature::Error> {
        let (key, signed) = (self.key.kind(), signed.as_slice());
        let fits = match self.algorithm {
            Algorithm::HS256 => shared(hmac::HMAC_SHA256, key, message, signed),
            Algorithm::ES256 => public(&ECDSA_P256_SHA256_FIXED, key, message, signed),
            Algorithm::ES384 => public(&ECDSA_P384_SHA384_FIXED, key, message, signed),
            Algorithm::EdDSA => public(&ED25519, key, message, signed),
            Algorithm::RS256 => rsa(&RSA_PKCS1_2048_8192_SHA256, key, message, signed),
            Algorithm::RS384 => rsa(&RSA_PKCS1_2048_8192_SHA384, key, message, signed),
            Algorithm::RS512 => rsa(&RSA_PKCS1_2048_8192_SHA512, key, message, signed),
            Algorithm::PS256 => rsa(&RSA_PSS_2048_8192_SHA256, key, message, signed),
            Algorithm::PS384 => rsa(&RSA_PSS_2048_8192_SHA384, key, message, signed),
            Algorithm::PS512 => rsa(&RSA_PSS_2048_8192_SHA512, key, message, signed),
            // What `keys` allows for no key.
            _ => Err(Unspecified),
        };
        fits.map_err(|_| signature::Error::new())
    }
}

fn shared(algorithm: hmac::Algorithm, key: &DecodingKeyKind, message: &[u8], signed: &[u8]) -> Result<(), Unspecified> {
    let DecodingKeyKind::SecretOrDer(secret) = key else { return Err(Unspecified) };
    hmac::verify(&hmac::Key::new(algorithm, secret), message, signed)
}

fn public(
    algorithm: &'static dyn VerificationAlgorithm,
    key: &DecodingKeyKind,
    message: &[u8],
    signed: &[u8],
) -> Result<(), Unspecified> {
    let DecodingKeyKind::SecretOrDer(key) = key else { return Err(Unspecified) };
    UnparsedPublicKey::new(algorithm, key).verify(message, signed)
}

fn rsa(
    algorithm: &'static RsaParameters,
    key: &DecodingKeyKind,
    message: &[u8],
    signed: &[u8],
) -> Result<(), Unspecified> {
    match key {
        DecodingKeyKind::SecretOrDer(_) => public(algorithm, key, message, signed),
        DecodingKeyKind::RsaModulusExponent { n, e } => {
            let (n, e) = (without_zeros(n), without_zeros(e));
            RsaPublicKeyComponents { n, e }.verify(algorithm, message, signed)
        }
    }
}

/// Some issuers write a number as a signed one, with a zero in front.
fn without_zeros(number: &[u8]) -> &[u8] {
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    number.get(zeros..).unwrap_or_default()
}
