//! Access tokens in place of keys (OAuth 2.1, RFC 9068): who holds one, and what it opens here.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::credential::NotAdmitted;
use super::jwt::{Claims, TokenFault, Tokens, claimed_issuer};
use crate::config::Profiles;
use crate::config::tokens::OauthSettings;
use crate::domain::id::KeyId;
use crate::domain::json::sha256_hex;
use crate::domain::principal::{Principal, Profile, Scope};
use crate::domain::secret::Secret;

/// Before the ids of those who hold a token and no key.
const PREFIX: &str = "oauth_";

impl Tokens {
    /// Says who holds this access token, right now.
    ///
    /// # Errors
    /// Why nobody does.
    pub async fn admit(
        &self,
        token: &Secret,
        oauth: &OauthSettings,
        profiles: &Profiles,
    ) -> Result<Principal, NotAdmitted> {
        // Which checker is asked may be the token's word; that it is right, is the checker's.
        let claimed = claimed_issuer(token).ok_or(NotAdmitted::Token(TokenFault::Malformed))?;
        let settings = oauth.servers.iter().find(|settings| *settings.issuer == *claimed);
        let settings = settings.ok_or(NotAdmitted::Token(TokenFault::Issuer))?;
        let claims = self.checker(settings).check(token).await.map_err(NotAdmitted::Token)?;
        holder(&claims, &settings.issuer, oauth, profiles)
    }
}

/// The principal that a believed token speaks for.
fn holder(claims: &Claims, issuer: &str, oauth: &OauthSettings, profiles: &Profiles) -> Result<Principal, NotAdmitted> {
    let subject = claims.name("sub").ok_or(NotAdmitted::Token(TokenFault::Claims))?;
    let client = claims.name("client_id").or_else(|| claims.name("azp")).unwrap_or_else(|| Arc::clone(&subject));
    let named = oauth.profile_claim.as_deref().and_then(|claim| claims.name(claim));
    let name = named.as_ref().unwrap_or(&oauth.profile);
    let profile = profiles.get(name).ok_or_else(|| NotAdmitted::NoProfile(name.to_string()))?;
    let opened = opened(&claims.scopes(), oauth);
    let profile = profile.within(&opened);
    if profile.scopes.is_empty() {
        return Err(NotAdmitted::TokenScope(offered(oauth, profiles)));
    }
    Ok(Principal {
        key: identity(issuer, &subject, &client),
        name: Arc::clone(&client),
        agent: client,
        user: user(issuer, &subject),
        profile: Arc::new(profile),
        roles: claims.roles(),
        plan: oauth.plan.clone(),
        grant: None,
        until: claims.expires(),
    })
}

/// The user that a subject is, `SUB@ISSUER`: each issuer has names of its own, and keys have theirs. It is the last `@`
/// that separates.
fn user(issuer: &str, subject: &str) -> Arc<str> {
    let place = issuer.split_once("://").map_or(issuer, |(_, place)| place).trim_end_matches('/');
    format!("{subject}@{}", place.replace('@', "%40")).into()
}

/// What stands in the place of a key's id, in sessions, limits and records: the same for every token of one subject with
/// one client.
fn identity(issuer: &str, subject: &str, client: &str) -> KeyId {
    let digest = sha256_hex(format!("{issuer}\n{subject}\n{client}").as_bytes());
    KeyId::from(format!("{PREFIX}{}", digest.get(..32).unwrap_or(&digest)).as_str())
}

fn opened(scopes: &BTreeSet<Arc<str>>, oauth: &OauthSettings) -> Vec<Scope> {
    scopes.iter().filter_map(|scope| oauth.scopes.get(&**scope)).flatten().copied().collect()
}

/// The scopes of tokens that open something of the profile that token holders have.
#[must_use]
pub fn offered(oauth: &OauthSettings, profiles: &Profiles) -> Vec<String> {
    let profile: Option<&Arc<Profile>> = profiles.get(&oauth.profile);
    let opens = |scopes: &[Scope]| profile.is_some_and(|profile| scopes.iter().any(|scope| profile.has(*scope)));
    oauth.scopes.iter().filter(|(_, scopes)| opens(scopes)).map(|(name, _)| name.clone()).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn issuers_and_keys_share_no_users() {
        assert_eq!(&*user("https://id.example", "ada"), "ada@id.example");
        assert_eq!(&*user("https://id.example/realms/a/", "ada"), "ada@id.example/realms/a");
        let issuers =
            ["https://a.example", "https://b.example", "https://b.example/a.example", "https://b.example/x@a.example"];
        let subjects = ["admin", "admin@a.example", "admin@b.example/x", "@"];
        let users = issuers.iter().flat_map(|issuer| subjects.map(|subject| user(issuer, subject)));
        let users: HashSet<Arc<str>> = users.collect();
        assert_eq!(users.len(), issuers.len() * subjects.len());
        assert!(!users.contains("admin"));
    }
}
