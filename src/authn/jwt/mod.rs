//! JSON Web Tokens: signed by somebody else, checked here, passed on to nobody.
//!
//! The key decides which algorithms count, never the token; the token must be meant for us, by the issuer that the
//! operator named, and be of this moment.

mod claims;
mod keys;
mod remote;
mod signature;
#[cfg(test)]
pub(crate) mod tests;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Validation, decode, decode_header};
use serde_json::{Map, Value};

pub use self::claims::Claims;
use self::keys::{KeySet, VerifyKey};
use self::remote::{Place, Remote};
use crate::config::tokens::{JwtKeys, JwtSettings};
use crate::domain::clock::Clock;
use crate::domain::secret::Secret;
use crate::domain::strict;

/// Bytes of a token.
const MAX_TOKEN: usize = 16 << 10;
/// How long a token waits for the keys of its issuer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Checkers that are kept: one for each block of the configuration, and those of a few before.
const MAX_CHECKERS: usize = 128;

/// Why a token is not believed: each is a sentence for whoever sent it, and repeats nothing of the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenFault {
    #[error("it is no signed JWT")]
    Malformed,
    #[error("no key of the issuer fits it")]
    UnknownKey,
    #[error("its signature does not fit")]
    Signature,
    #[error("its issuer is another")]
    Issuer,
    #[error("it is meant for another audience")]
    Audience,
    #[error("it has expired")]
    Expired,
    #[error("it is not valid yet")]
    Early,
    #[error("a claim is missing or malformed: `iss`, `aud` and `exp` are needed")]
    Claims,
    #[error("the issuer's keys cannot be fetched: try again in a moment")]
    Unavailable,
}

/// The checkers of all tokens that the configuration knows; each keeps the keys that it has fetched over a reload.
#[derive(Debug)]
pub struct Tokens {
    clock: Arc<dyn Clock>,
    checkers: Mutex<Vec<Arc<Checker>>>,
}

impl Tokens {
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        signature::install();
        Self { clock, checkers: Mutex::default() }
    }

    /// The checker of tokens as these settings describe them.
    #[must_use]
    pub fn checker(&self, settings: &Arc<JwtSettings>) -> Arc<Checker> {
        let mut checkers = self.checkers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = checkers.iter().find(|checker| checker.settings == *settings) {
            return Arc::clone(found);
        }
        let checker = Arc::new(Checker::new(Arc::clone(settings), Arc::clone(&self.clock)));
        if checkers.len() >= MAX_CHECKERS {
            checkers.remove(0);
        }
        checkers.push(Arc::clone(&checker));
        checker
    }
}

/// Checks the tokens of one issuer.
#[derive(Debug)]
pub struct Checker {
    settings: Arc<JwtSettings>,
    keys: Keys,
    clock: Arc<dyn Clock>,
}

#[derive(Debug)]
enum Keys {
    Known(KeySet),
    Remote(Remote),
}

impl Checker {
    fn new(settings: Arc<JwtSettings>, clock: Arc<dyn Clock>) -> Self {
        let remote = |place| Keys::Remote(Remote::new(place, Arc::clone(&clock)));
        let keys = match &settings.keys {
            JwtKeys::Set(url) => remote(Place::Set(url.clone())),
            JwtKeys::Discovered(url) => remote(Place::Issuer(Arc::clone(&settings.issuer), url.clone())),
            JwtKeys::Shared(secret) => Keys::Known(KeySet(vec![VerifyKey::shared(secret)])),
            JwtKeys::Public { pem, .. } => Keys::Known(KeySet(VerifyKey::public(pem).into_iter().collect())),
        };
        Self { settings, keys, clock }
    }

    /// What a token says, if it can be believed. May wait for the issuer's keys, some seconds at most.
    ///
    /// # Errors
    /// Why it is not believed.
    pub async fn check(&self, token: &Secret) -> Result<Claims, TokenFault> {
        let token = token.expose();
        if token.len() > MAX_TOKEN {
            return Err(TokenFault::Malformed);
        }
        let header = decode_header(token).map_err(|_| TokenFault::Malformed)?;
        // What must be understood is not: no extension is (RFC 7515, section 4.1.11).
        if header.crit.is_some() {
            return Err(TokenFault::Malformed);
        }
        parts_are_plain(token)?;
        let kid = header.kid.as_deref();
        let keys = match &self.keys {
            Keys::Known(set) => set.fitting(header.alg, kid),
            Keys::Remote(remote) => {
                let found = tokio::time::timeout(PATIENCE, remote.find(header.alg, kid)).await;
                found.unwrap_or(Err(TokenFault::Unavailable))?
            }
        };
        let mut validation = Validation::new(header.alg);
        validation.set_audience(&self.settings.audiences);
        validation.set_issuer(&[&self.settings.issuer]);
        validation.set_required_spec_claims(&["exp", "iss", "aud"]);
        // By the gateway's own clock, below.
        validation.validate_exp = false;
        let mut fault = TokenFault::UnknownKey;
        for key in keys {
            match decode::<Map<String, Value>>(token, &key.key, &validation) {
                Ok(decoded) => return self.timely(Claims::new(decoded.claims, &self.settings.roles_claim)),
                Err(error) => fault = reason(error.kind()),
            }
            // Judged behind a signature that fits: no other key will say more.
            if matches!(fault, TokenFault::Issuer | TokenFault::Audience | TokenFault::Claims) {
                break;
            }
        }
        Err(fault)
    }

    fn timely(&self, claims: Claims) -> Result<Claims, TokenFault> {
        let (now, leeway) = (self.clock.now().0, i64::try_from(self.settings.leeway.as_millis()).unwrap_or(0));
        // An issuer is one text: a list that holds the right one says nothing.
        if claims.text("iss") != Some(&*self.settings.issuer) {
            return Err(TokenFault::Issuer);
        }
        let expires = claims.expires().ok_or(TokenFault::Claims)?;
        if now >= expires.0.saturating_add(leeway) {
            return Err(TokenFault::Expired);
        }
        match claims.not_before() {
            Some(Err(())) => Err(TokenFault::Claims),
            Some(Ok(begins)) if begins.0 > now.saturating_add(leeway) => Err(TokenFault::Early),
            _ => Ok(claims),
        }
    }

    /// The issuer whose tokens these are.
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.settings.issuer
    }
}

/// Who a token says that it is from; believed by nobody yet.
#[must_use]
pub fn claimed_issuer(token: &Secret) -> Option<String> {
    let payload = token.expose().split('.').nth(1).filter(|part| part.len() <= MAX_TOKEN)?;
    let claims: Map<String, Value> = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).ok()?).ok()?;
    claims.get("iss")?.as_str().map(str::to_owned)
}

/// Header and claims can be read in one way only.
fn parts_are_plain(token: &str) -> Result<(), TokenFault> {
    for part in token.split('.').take(2) {
        let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| TokenFault::Malformed)?;
        let text = std::str::from_utf8(&bytes).map_err(|_| TokenFault::Malformed)?;
        strict::check(text).map_err(|_| TokenFault::Malformed)?;
    }
    Ok(())
}

fn reason(kind: &ErrorKind) -> TokenFault {
    match kind {
        ErrorKind::InvalidSignature => TokenFault::Signature,
        ErrorKind::InvalidIssuer => TokenFault::Issuer,
        ErrorKind::InvalidAudience => TokenFault::Audience,
        ErrorKind::MissingRequiredClaim(_) | ErrorKind::InvalidClaimFormat(_) => TokenFault::Claims,
        _ => TokenFault::Malformed,
    }
}
