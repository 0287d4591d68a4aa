//! Keys that verify tokens, each with the algorithms that it is for: what a token says of itself never widens them.

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey};
use serde::Deserialize;
use serde_json::Value;

use crate::domain::secret::Secret;
use crate::domain::strict;

/// Keys of one set that are looked at.
const MAX_KEYS: usize = 100;
/// Keys that one token is tried with, where it names none.
const MAX_TRIED: usize = 8;

const RSA: [Algorithm; 6] =
    [Algorithm::RS256, Algorithm::RS384, Algorithm::RS512, Algorithm::PS256, Algorithm::PS384, Algorithm::PS512];

/// One key.
#[derive(Debug, Clone)]
pub(super) struct VerifyKey {
    kid: Option<String>,
    algorithms: Vec<Algorithm>,
    pub(super) key: DecodingKey,
}

impl VerifyKey {
    /// A secret: HS256 and nothing else.
    pub(super) fn shared(secret: &Secret) -> Self {
        let key = DecodingKey::from_secret(secret.expose().as_bytes());
        Self { kid: None, algorithms: vec![Algorithm::HS256], key }
    }

    /// A public key in PEM: what its own type is for.
    pub(super) fn public(pem: &str) -> Option<Self> {
        let bytes = pem.as_bytes();
        let key = DecodingKey::from_ec_pem(bytes)
            .or_else(|_| DecodingKey::from_ed_pem(bytes))
            .or_else(|_| DecodingKey::from_rsa_pem(bytes))
            .ok()?;
        let algorithms = match (key.family(), key.try_get_as_bytes().ok()?.len()) {
            (AlgorithmFamily::Rsa, _) => RSA.to_vec(),
            (AlgorithmFamily::Ed, _) => vec![Algorithm::EdDSA],
            // An uncompressed point: one byte, and two coordinates.
            (AlgorithmFamily::Ec, 65) => vec![Algorithm::ES256],
            (AlgorithmFamily::Ec, 97) => vec![Algorithm::ES384],
            _ => return None,
        };
        Some(Self { kid: None, algorithms, key })
    }

    /// A key of a key set, where it is one that verifies. A shared secret in a public document is none.
    fn of(jwk: &Jwk) -> Option<Self> {
        let algorithms = match &jwk.algorithm {
            AlgorithmParameters::RSA(_) => RSA.to_vec(),
            AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => vec![Algorithm::ES256],
            AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P384 => vec![Algorithm::ES384],
            AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => vec![Algorithm::EdDSA],
            _ => return None,
        };
        let common = &jwk.common;
        let meant =
            |algorithm: &Algorithm| common.key_algorithm.is_none_or(|named| named == KeyAlgorithm::from(*algorithm));
        let algorithms: Vec<Algorithm> = algorithms.into_iter().filter(meant).collect();
        let verifies = common.public_key_use.as_ref().is_none_or(|usage| *usage == PublicKeyUse::Signature)
            && common.key_operations.as_ref().is_none_or(|all| all.contains(&KeyOperations::Verify));
        let key = DecodingKey::from_jwk(jwk).ok()?;
        (verifies && !algorithms.is_empty()).then(|| Self { kid: common.key_id.clone(), algorithms, key })
    }

    /// Whether a token that names this algorithm, and perhaps a key, may be checked with this one.
    fn fits(&self, algorithm: Algorithm, kid: Option<&str>) -> bool {
        let named = match (&self.kid, kid) {
            (Some(own), Some(kid)) => own == kid,
            _ => true,
        };
        named && self.algorithms.contains(&algorithm)
    }
}

/// The keys of one issuer.
#[derive(Debug, Clone, Default)]
pub(super) struct KeySet(pub(super) Vec<VerifyKey>);

impl KeySet {
    /// Reads a key set (RFC 7517). Keys that are not understood are left out.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        #[derive(Deserialize)]
        struct Document {
            keys: Vec<Value>,
        }
        let text = std::str::from_utf8(bytes).ok()?;
        strict::check(text).ok()?;
        let document: Document = serde_json::from_str(text).ok()?;
        let keys = document.keys.into_iter().take(MAX_KEYS);
        Some(Self(keys.filter_map(|key| VerifyKey::of(&serde_json::from_value(key).ok()?)).collect()))
    }

    /// The keys to try.
    pub(super) fn fitting(&self, algorithm: Algorithm, kid: Option<&str>) -> Vec<VerifyKey> {
        self.0.iter().filter(|key| key.fits(algorithm, kid)).take(MAX_TRIED).cloned().collect()
    }
}
