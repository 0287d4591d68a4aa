//! Tokens of an issuer that the tests are, and what becomes of those that are wrong.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::extract::State;
use axum::response::IntoResponse;
use ring::hmac;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use serde_json::json;
use tokio_util::task::TaskTracker;
use url::Url;

use super::*;
use crate::domain::clock::{ManualClock, Moment};

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const NOW: i64 = 1_800_000_000;

/// A key of the issuer.
enum Key {
    Es256(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
    Hs256,
}

impl Key {
    fn es256() -> Self {
        let random = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        Self::Es256(EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random).unwrap())
    }

    fn ed25519() -> Self {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Self::Ed25519(Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).unwrap())
    }

    fn algorithm(&self) -> &'static str {
        match self {
            Self::Es256(_) => "ES256",
            Self::Ed25519(_) => "EdDSA",
            Self::Hs256 => "HS256",
        }
    }

    fn jwk(&self, kid: &str) -> Value {
        match self {
            Self::Es256(key) => {
                let (x, y) = key.public_key().as_ref()[1..].split_at(32);
                json!({"kty": "EC", "crv": "P-256", "kid": kid, "x": base64(x), "y": base64(y)})
            }
            Self::Ed25519(key) => {
                json!({"kty": "OKP", "crv": "Ed25519", "kid": kid, "x": base64(key.public_key().as_ref())})
            }
            Self::Hs256 => json!({"kty": "oct", "kid": kid, "k": base64(SECRET.as_bytes())}),
        }
    }

    fn sign(&self, header: &Value, claims: &str) -> Secret {
        let message = format!("{}.{}", base64(header.to_string().as_bytes()), base64(claims.as_bytes()));
        let signed = match self {
            Self::Es256(key) => key.sign(&SystemRandom::new(), message.as_bytes()).unwrap().as_ref().to_vec(),
            Self::Ed25519(key) => key.sign(message.as_bytes()).as_ref().to_vec(),
            Self::Hs256 => hmac_of(SECRET.as_bytes(), &message),
        };
        Secret::new(format!("{message}.{}", base64(&signed)))
    }

    fn token(&self, kid: Option<&str>, claims: &Value) -> Secret {
        let mut header = json!({"alg": self.algorithm(), "typ": "JWT"});
        if let Some(kid) = kid {
            header["kid"] = json!(kid);
        }
        self.sign(&header, &claims.to_string())
    }
}

fn hmac_of(key: &[u8], message: &str) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), message.as_bytes()).as_ref().to_vec()
}

fn base64(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn claims() -> Value {
    json!({"iss": "https://id.example", "aud": "toolgate", "sub": "ada", "exp": NOW + 300, "roles": ["finance"]})
}

fn with(member: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[member] = value;
    claims
}

fn without(member: &str) -> Value {
    let mut claims = claims();
    claims.as_object_mut().unwrap().remove(member);
    claims
}

fn settings(keys: JwtKeys) -> Arc<JwtSettings> {
    Arc::new(JwtSettings {
        issuer: "https://id.example".into(),
        audiences: vec!["toolgate".into()],
        keys,
        roles_claim: "roles".into(),
        leeway: Duration::from_secs(60),
    })
}

fn checker(keys: JwtKeys) -> (Arc<Checker>, ManualClock) {
    let clock = ManualClock::at(Moment(NOW * 1000));
    (Tokens::new(Arc::new(clock.clone())).checker(&settings(keys)), clock)
}

fn shared() -> Arc<Checker> {
    checker(JwtKeys::Shared(Secret::new(SECRET))).0
}

async fn fault(checker: &Checker, token: &Secret) -> Option<TokenFault> {
    checker.check(token).await.err()
}

#[tokio::test]
async fn a_token_says_who_and_what() {
    let claims = shared().check(&Key::Hs256.token(None, &claims())).await.unwrap();
    assert_eq!(claims.text("sub"), Some("ada"));
    assert_eq!(claims.roles().into_iter().collect::<Vec<_>>(), ["finance".into()]);
    assert_eq!(claims.expires(), Some(Moment((NOW + 300) * 1000)));
}

#[tokio::test]
async fn claims_that_are_wrong_are_refused_each_for_its_reason() {
    use TokenFault::{Audience, Claims, Early, Expired, Issuer};
    let checker = shared();
    for (claims, expected) in [
        (with("exp", json!(NOW - 59)), None),
        (with("exp", json!(NOW - 60)), Some(Expired)),
        (with("exp", json!(f64::from(1_700_000_000) + 0.5)), Some(Expired)),
        (with("exp", json!("never")), Some(Claims)),
        (with("exp", json!(-1)), Some(Claims)),
        (without("exp"), Some(Claims)),
        (with("nbf", json!(NOW + 60)), None),
        (with("nbf", json!(NOW + 61)), Some(Early)),
        (with("nbf", json!("soon")), Some(Claims)),
        (with("iss", json!("https://id.example/")), Some(Issuer)),
        (with("iss", json!(["https://id.example"])), Some(Issuer)),
        (without("iss"), Some(Claims)),
        (with("aud", json!("another")), Some(Audience)),
        (with("aud", json!(["another", "toolgate"])), None),
        (with("aud", json!([])), Some(Audience)),
        (without("aud"), Some(Claims)),
    ] {
        assert_eq!(fault(&checker, &Key::Hs256.token(None, &claims)).await, expected, "{claims}");
    }
}

#[tokio::test]
async fn what_is_no_signed_token_is_refused() {
    let checker = shared();
    let good = Key::Hs256.token(None, &claims());
    let mut parts: Vec<&str> = good.expose().split('.').collect();
    let unsigned = format!("{}.{}.", base64(br#"{"alg":"none"}"#), parts[1]);
    let bare = format!("{}.{}.", parts[0], parts[1]);
    let cut = parts[2][..20].to_owned();
    parts[2] = &cut;
    let header = |header: Value| Key::Hs256.sign(&header, &claims().to_string()).expose().to_owned();
    let twice = r#"{"iss":"https://id.example","aud":"toolgate","exp":1800000300,"sub":"ada","sub":"root"}"#;
    for text in [
        String::new(),
        "..".into(),
        "a.b.c".into(),
        "x".repeat(20_000),
        unsigned,
        bare,
        parts.join("."),
        format!("{}.x", good.expose()),
        header(json!({"alg": "HS256", "crit": ["exp"], "exp": 1})),
        header(json!({"alg": "HS512"})),
        header(json!({"alg": "none"})),
        header(json!({"alg": "hs256"})),
        header(json!({})),
        Key::Hs256.sign(&json!({"alg": "HS256"}), twice).expose().to_owned(),
    ] {
        assert!(fault(&checker, &Secret::new(text.clone())).await.is_some(), "{text}");
    }
}

/// The classic: a public key, which everybody knows, used as the secret of an HMAC.
#[tokio::test]
async fn a_key_verifies_its_own_kind_of_signature_alone() {
    let key = Key::ed25519();
    let Key::Ed25519(pair) = &key else { panic!("Ed25519") };
    let mut der = vec![0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
    der.extend_from_slice(pair.public_key().as_ref());
    let body = base64::engine::general_purpose::STANDARD.encode(&der);
    let pem = format!("-----BEGIN PUBLIC KEY-----\n{body}\n-----END PUBLIC KEY-----\n");
    let (checker, _) = checker(JwtKeys::Public { pem: pem.as_str().into(), file: "key.pem".into() });
    assert_eq!(fault(&checker, &key.token(None, &claims())).await, None);
    assert_eq!(fault(&checker, &Key::ed25519().token(None, &claims())).await, Some(TokenFault::Signature));
    for secret in [pem.as_bytes(), &der, pair.public_key().as_ref(), b""] {
        let message = format!("{}.{}", base64(br#"{"alg":"HS256"}"#), base64(claims().to_string().as_bytes()));
        let forged = Secret::new(format!("{message}.{}", base64(&hmac_of(secret, &message))));
        assert_eq!(fault(&checker, &forged).await, Some(TokenFault::UnknownKey));
    }
    assert_eq!(fault(&shared(), &key.token(None, &claims())).await, Some(TokenFault::UnknownKey));
}

#[test]
fn keys_of_a_set_are_read_with_what_they_are_for() {
    let key = Key::es256();
    let read = |change: &dyn Fn(&mut Value)| {
        let mut jwk = key.jwk("a");
        change(&mut jwk);
        let set = KeySet::read(json!({"keys": [jwk, {"kty": "new"}, 3]}).to_string().as_bytes()).unwrap();
        set.fitting(jsonwebtoken::Algorithm::ES256, Some("a")).len()
    };
    assert_eq!(read(&|_| {}), 1);
    assert_eq!(read(&|jwk| jwk["alg"] = json!("ES256")), 1);
    assert_eq!(read(&|jwk| jwk["alg"] = json!("ES384")), 0);
    assert_eq!(read(&|jwk| jwk["alg"] = json!("HS256")), 0);
    assert_eq!(read(&|jwk| jwk["use"] = json!("sig")), 1);
    assert_eq!(read(&|jwk| jwk["use"] = json!("enc")), 0);
    assert_eq!(read(&|jwk| jwk["key_ops"] = json!(["sign"])), 0);
    assert_eq!(read(&|jwk| jwk["kid"] = json!("b")), 0);
    assert_eq!(read(&|jwk| jwk["crv"] = json!("P-521")), 0);
    let secret = json!({"keys": [Key::Hs256.jwk("a")]});
    assert!(KeySet::read(secret.to_string().as_bytes()).unwrap().0.is_empty(), "a secret is not published");
    assert!(KeySet::read(b"{\"keys\":[],\"keys\":[]}").is_none());
    assert!(KeySet::read(b"<html>").is_none());
}

/// RSA keys of a set: the vectors of RFC 7515, appendix A.2, whose claims have another shape.
#[test]
fn rsa_verifies() {
    signature::install();
    let jwk = json!({"kty": "RSA", "e": "AQAB", "n": "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ"});
    // Put together here, so that no file holds what looks like a token.
    let token = [
        "eyJhbGciOiJSUzI1NiJ9",
        "eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ",
        "cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw",
    ]
    .join(".");
    let set = KeySet::read(json!({"keys": [jwk]}).to_string().as_bytes()).unwrap();
    let keys = set.fitting(jsonwebtoken::Algorithm::RS256, None);
    let mut validation = Validation::new(jsonwebtoken::Algorithm::RS256);
    validation.validate_exp = false;
    assert!(decode::<Map<String, Value>>(&token, &keys[0].key, &validation).is_ok());
    let altered = token.replace(".cC4h", ".cC4i");
    assert!(decode::<Map<String, Value>>(&altered, &keys[0].key, &validation).is_err());
}

#[test]
fn roles_and_scopes_are_found_in_every_usual_place() {
    let roles = |path: &str, claims: Value| {
        let Value::Object(all) = claims else { panic!("an object") };
        Claims::new(all, &path.into()).roles().iter().map(ToString::to_string).collect::<Vec<_>>().join("|")
    };
    assert_eq!(roles("roles", json!({"roles": ["b", "a", 3, "", "x\u{0}y"]})), "a|b");
    assert_eq!(roles("roles", json!({"roles": "a b"})), "a b");
    assert_eq!(roles("realm_access.roles", json!({"realm_access": {"roles": ["a"]}})), "a");
    assert_eq!(roles("https://x.example/roles", json!({"https://x.example/roles": ["a"]})), "a");
    assert_eq!(roles("roles", json!({"roles": {"a": true}})), "");
    let scopes = |claims: Value| {
        let Value::Object(all) = claims else { panic!("an object") };
        Claims::new(all, &"roles".into()).scopes().iter().map(ToString::to_string).collect::<Vec<_>>().join("|")
    };
    assert_eq!(scopes(json!({"scope": "b  a"})), "a|b");
    assert_eq!(scopes(json!({"scp": ["b", "a"]})), "a|b");
}

/// An issuer's key set on this machine.
#[derive(Clone)]
struct Issuer {
    set: Arc<Mutex<Option<Value>>>,
    asked: Arc<AtomicUsize>,
    url: Url,
}

impl Issuer {
    async fn start(set: Value) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/keys", listener.local_addr().unwrap()).parse().unwrap();
        let issuer = Self { set: Arc::new(Mutex::new(Some(set))), asked: Arc::default(), url };
        let answer = async |State(issuer): State<Self>| {
            issuer.asked.fetch_add(1, Ordering::SeqCst);
            let set = issuer.set.lock().unwrap().clone();
            set.map_or_else(
                || http::StatusCode::INTERNAL_SERVER_ERROR.into_response(),
                |set| axum::Json(set).into_response(),
            )
        };
        let router = Router::new().fallback(answer).with_state(issuer.clone());
        TaskTracker::new().spawn(async move { axum::serve(listener, router).await });
        issuer
    }

    fn publish(&self, set: Option<Value>) {
        *self.set.lock().unwrap() = set;
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

#[tokio::test]
async fn a_new_key_is_found_and_made_up_ones_make_no_work() {
    let (old, new) = (Key::es256(), Key::ed25519());
    let issuer = Issuer::start(json!({"keys": [old.jwk("old")]})).await;
    let (checker, clock) = checker(JwtKeys::Set(issuer.url.clone()));
    let (of_old, of_new) = (
        old.token(Some("old"), &with("exp", json!(NOW + 900_000))),
        new.token(Some("new"), &with("exp", json!(NOW + 900_000))),
    );
    for _ in 0..3 {
        assert_eq!(fault(&checker, &of_old).await, None);
    }
    assert_eq!(issuer.asked(), 1);
    issuer.publish(Some(json!({"keys": [new.jwk("new")]})));
    for _ in 0..20 {
        assert_eq!(fault(&checker, &of_new).await, Some(TokenFault::UnknownKey));
    }
    assert_eq!(issuer.asked(), 1, "not before half a minute is over");
    clock.advance(30_000);
    let both = futures_util::future::join_all((0..20).map(|_| fault(&checker, &of_new))).await;
    assert!(both.iter().all(Option::is_none), "{both:?}");
    assert_eq!(issuer.asked(), 2, "one for all of them");
    assert_eq!(fault(&checker, &of_old).await, Some(TokenFault::UnknownKey), "the old key is gone");
}

#[tokio::test]
async fn while_the_issuer_is_silent_its_last_word_counts_for_a_day() {
    let key = Key::es256();
    let issuer = Issuer::start(json!({"keys": [key.jwk("a")]})).await;
    let (checker, clock) = checker(JwtKeys::Set(issuer.url.clone()));
    let token = key.token(Some("a"), &with("exp", json!(NOW + 900_000)));
    issuer.publish(None);
    assert_eq!(fault(&checker, &token).await, Some(TokenFault::Unavailable));
    issuer.publish(Some(json!({"keys": [key.jwk("a")]})));
    assert_eq!(fault(&checker, &token).await, Some(TokenFault::Unavailable), "it was asked just now");
    clock.advance(3_000);
    assert_eq!(fault(&checker, &token).await, None);
    for odd in [None, Some(json!({"keys": "none"})), Some(json!(["html"]))] {
        issuer.publish(odd);
        clock.advance(601_000);
        assert_eq!(fault(&checker, &token).await, None, "stale keys");
    }
    clock.advance(24 * 3600 * 1000);
    assert_eq!(fault(&checker, &token).await, Some(TokenFault::Unavailable), "too stale");
    issuer.publish(Some(json!({"keys": [key.jwk("a")]})));
    clock.advance(30_000);
    assert_eq!(fault(&checker, &token).await, None);
}

#[tokio::test]
async fn a_document_without_end_is_given_up() {
    let key = Key::es256();
    let issuer = Issuer::start(json!({"keys": [], "padding": "x".repeat(2 << 20)})).await;
    let (checker, _) = checker(JwtKeys::Set(issuer.url.clone()));
    assert_eq!(fault(&checker, &key.token(None, &claims())).await, Some(TokenFault::Unavailable));
}

#[tokio::test]
async fn a_checker_survives_a_reload_of_the_same_settings() {
    let tokens = Tokens::new(Arc::new(ManualClock::at(Moment(0))));
    let keys = JwtKeys::Shared(Secret::new(SECRET));
    let one = tokens.checker(&settings(keys.clone()));
    assert!(Arc::ptr_eq(&one, &tokens.checker(&settings(keys))));
    let other = Arc::new(JwtSettings {
        issuer: "https://other.example".into(),
        ..JwtSettings::clone(&settings(JwtKeys::Shared(Secret::new(SECRET))))
    });
    assert!(!Arc::ptr_eq(&one, &tokens.checker(&other)));
}
