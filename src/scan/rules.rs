//! The rules by name. Where findings overlap, the rule that stands first here names them.

use serde::Serialize;

/// What a finding is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Something that opens something.
    Secret,
    /// Something that says who a person is.
    Personal,
}

/// One rule: its name is what `disable` takes and what answers and records say.
#[derive(Debug)]
pub struct Rule {
    pub id: &'static str,
    pub kind: Kind,
    /// What it finds, for lists.
    pub about: &'static str,
}

const fn secret(id: &'static str, about: &'static str) -> Rule {
    Rule { id, kind: Kind::Secret, about }
}

const fn personal(id: &'static str, about: &'static str) -> Rule {
    Rule { id, kind: Kind::Personal, about }
}

/// Every rule, the more telling first.
pub const RULES: &[Rule] = &[
    secret("private-key", "private keys in PEM, OpenSSH and PGP armour, age keys"),
    secret("toolgate-key", "keys and tokens of this gateway (checksum)"),
    secret("aws-access-key", "AWS access key ids"),
    secret("aws-secret-key", "AWS secret access keys beside their name"),
    secret("github-token", "GitHub tokens: classic (checksum), fine-grained"),
    secret("gitlab-token", "GitLab personal, deploy, runner, trigger and job tokens"),
    secret("slack-token", "Slack bot, user, app and refresh tokens"),
    secret("slack-webhook", "Slack incoming webhooks"),
    secret("discord-webhook", "Discord webhooks"),
    secret("telegram-token", "Telegram bot tokens"),
    secret("stripe-key", "Stripe secret, restricted and webhook keys"),
    secret("square-key", "Square access tokens and secrets"),
    secret("openai-key", "OpenAI keys and others of the form `sk-…`"),
    secret("anthropic-key", "Anthropic keys and tokens"),
    secret("ai-key", "keys of Groq, Perplexity, xAI, Replicate, Hugging Face, NVIDIA, OpenRouter, LangSmith"),
    secret("google-api-key", "Google API keys"),
    secret("google-oauth", "Google OAuth client secrets and access tokens"),
    secret("azure-key", "Azure storage keys and client secrets"),
    secret("cloud-token", "tokens of DigitalOcean, Databricks, Heroku, Fly, Tailscale, Alibaba, Supabase, PlanetScale"),
    secret("package-token", "tokens of npm (checksum), PyPI, RubyGems, Docker Hub, Artifactory"),
    secret("infra-token", "tokens of Vault, Terraform, Pulumi, Doppler, Grafana, Sentry, New Relic, Dynatrace"),
    secret(
        "saas-token",
        "tokens of Atlassian, Linear, Notion, Figma, Shopify, SendGrid, Postman, Contentful and others",
    ),
    secret("jwt", "JSON Web Tokens, signed or encrypted"),
    secret("url-password", "passwords in connection URLs"),
    secret("basic-auth", "user and password of HTTP basic authentication"),
    secret("bearer-token", "bearer tokens of HTTP requests"),
    personal("iban", "bank accounts (country, length, mod 97)"),
    personal("card", "payment cards (issuer, length, Luhn)"),
    personal("us-ssn", "US social security numbers, beside a word that says so"),
    personal("uk-nino", "UK national insurance numbers, beside a word that says so"),
    personal("fr-nir", "French social security numbers (key)"),
    personal("de-tax-id", "German tax ids (check digit), beside a word that says so"),
    personal("phone", "telephone numbers, beside a word that says so"),
    personal("email", "e-mail addresses of people"),
    secret("password", "values assigned to a password's name"),
    secret("assigned-secret", "random values assigned to the name of a key, a token or a secret"),
];

/// The rule of this name, as everything else names it.
#[must_use]
pub fn rule(id: &str) -> Option<&'static Rule> {
    RULES.iter().find(|rule| rule.id == id)
}

/// How telling a rule is: the less, the more.
pub(super) fn rank(id: &str) -> usize {
    RULES.iter().position(|rule| rule.id == id).unwrap_or(RULES.len())
}

pub(super) fn kind(id: &str) -> Kind {
    rule(id).map_or(Kind::Secret, |rule| rule.kind)
}
