//! The shapes of `/v1/providers` as `/openapi.json` describes them.

use serde::Deserialize;
use utoipa::ToSchema;

use super::schema::Meta;
use super::shield_schema::PageMeta;

/// How an account with a provider stands.
#[derive(Debug, ToSchema)]
#[schema(rename_all = "lowercase")]
pub enum ProviderState {
    Connected,
    /// The provider renews it no more: connect it anew.
    Expired,
    Disconnected,
}

/// A provider, and how the caller's account with it stands.
#[derive(Debug, ToSchema)]
pub struct Provider {
    /// `prv_…`: names the caller's account.
    pub id: String,
    /// As paths name the provider.
    pub slug: String,
    /// As people know it.
    pub title: String,
    pub state: ProviderState,
    pub connected: bool,
    /// What the provider lets the gateway do.
    pub scopes: Vec<String>,
    /// Whether the gateway renews the credentials by itself.
    pub renews: bool,
    #[schema(required = true, format = DateTime)]
    pub connected_at: Option<String>,
    #[schema(required = true, format = DateTime)]
    pub refreshed_at: Option<String>,
    /// When the credentials end, unless they are renewed before.
    #[schema(required = true, format = DateTime)]
    pub expires_at: Option<String>,
    /// The servers that are asked with the account.
    pub servers: Vec<String>,
}

#[derive(Debug, ToSchema)]
pub struct ProviderPage {
    pub data: Vec<Provider>,
    pub meta: PageMeta,
}

#[derive(Debug, ToSchema)]
pub struct ProviderAnswer {
    pub data: Provider,
    pub meta: Meta,
}

/// An object without members; the body may be left out.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NothingAsked {}

/// Where a user goes to connect an account.
#[derive(Debug, ToSchema)]
pub struct Connect {
    /// `prv_…`: names the account once it is connected.
    pub id: String,
    pub slug: String,
    /// To be opened in the user's own browser.
    pub url: String,
    /// Seconds in which it has to be finished.
    pub expires_in: u64,
}

#[derive(Debug, ToSchema)]
pub struct ConnectAnswer {
    pub data: Connect,
    pub meta: Meta,
}

#[derive(Debug, ToSchema)]
pub struct Disconnected {
    pub id: String,
    pub slug: String,
    /// Always true.
    pub disconnected: bool,
}

#[derive(Debug, ToSchema)]
pub struct DisconnectedAnswer {
    pub data: Disconnected,
    pub meta: Meta,
}

/// What a provider has sent a person back with, as the page's own form has it.
#[derive(Debug, ToSchema)]
pub struct Returned {
    /// As the gateway gave it.
    pub state: String,
    /// What is exchanged for tokens.
    pub code: String,
    /// Which authorization server this is (RFC 9207).
    #[schema(nullable = false)]
    pub iss: Option<String>,
}
