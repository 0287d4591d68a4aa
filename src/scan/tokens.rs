//! Keys with a form: a prefix that names the issuer, an alphabet, a length, sometimes a checksum.

use std::ops::Range;

use super::text::{at, before, entropy, is_checked, is_word, part, run, run_back};
use super::{Confidence, Found};

/// What may stand behind a prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Body {
    /// Letters and digits.
    Alnum,
    /// Letters, digits, `-` and `_`.
    Dashed,
    /// Those, and `.`.
    Dotted,
    Hex,
    /// Hexadecimal in parts, with `-` or `_` between them.
    HexParts,
    /// Upper-case letters and digits.
    Upper,
    /// `A` to `Z`, `2` to `7`.
    Base32,
    /// Standard base64 with its padding.
    Base64,
    /// Letters, digits and `/`.
    Path,
}

impl Body {
    const fn has(self, byte: u8) -> bool {
        match self {
            Self::Alnum => byte.is_ascii_alphanumeric(),
            Self::Dashed => byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'),
            Self::Dotted => byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'='),
            Self::Hex => byte.is_ascii_hexdigit(),
            Self::HexParts => byte.is_ascii_hexdigit() || matches!(byte, b'-' | b'_'),
            Self::Upper => byte.is_ascii_uppercase() || byte.is_ascii_digit(),
            Self::Base32 => byte.is_ascii_uppercase() || matches!(byte, b'2'..=b'7'),
            Self::Base64 => byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'='),
            Self::Path => byte.is_ascii_alphanumeric() || byte == b'/',
        }
    }
}

/// What else must be true of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Check {
    Form,
    /// A right checksum makes it certain.
    Sum,
    /// Without the right checksum it is none.
    OnlySum,
    /// Has digits and letters of both cases, or is hexadecimal.
    Mixed,
    /// Has digits and letters.
    Digits,
    /// Begins with digits, as Slack's tokens do.
    Numbered,
}

/// One form of key.
#[derive(Debug)]
pub(super) struct Token {
    pub prefix: &'static str,
    rule: &'static str,
    body: Body,
    /// Lengths of the body, from and to.
    length: (usize, usize),
    check: Check,
}

const fn token(rule: &'static str, prefix: &'static str, body: Body, from: usize, to: usize) -> Token {
    Token { prefix, rule, body, length: (from, to), check: Check::Form }
}

const fn checked(rule: &'static str, prefix: &'static str, body: Body, from: usize, to: usize, check: Check) -> Token {
    Token { prefix, rule, body, length: (from, to), check }
}

use Body::{Alnum, Base32, Base64, Dashed, Dotted, Hex, HexParts, Path, Upper};

/// Every form. A prefix has three characters at least, since all of them are looked for at once.
#[rustfmt::skip]
pub(super) const TOKENS: &[Token] = &[
    checked("toolgate-key", "inv_live_", Alnum, 49, 49, Check::OnlySum),
    checked("toolgate-key", "mcp_live_", Alnum, 49, 49, Check::OnlySum),
    checked("toolgate-key", "svc_live_", Alnum, 49, 49, Check::OnlySum),
    checked("toolgate-key", "ref_live_", Alnum, 71, 71, Check::OnlySum),
    token("aws-access-key", "AKIA", Base32, 16, 16),
    token("aws-access-key", "ASIA", Base32, 16, 16),
    token("aws-access-key", "ABIA", Base32, 16, 16),
    token("aws-access-key", "ACCA", Base32, 16, 16),
    checked("github-token", "ghp_", Alnum, 36, 36, Check::Sum),
    checked("github-token", "gho_", Alnum, 36, 36, Check::Sum),
    checked("github-token", "ghu_", Alnum, 36, 36, Check::Sum),
    checked("github-token", "ghs_", Alnum, 36, 36, Check::Sum),
    checked("github-token", "ghr_", Alnum, 36, 76, Check::Sum),
    token("github-token", "github_pat_", Dashed, 82, 82),
    token("gitlab-token", "glpat-", Dotted, 20, 320),
    token("gitlab-token", "gldt-", Dashed, 20, 64),
    token("gitlab-token", "glrt-", Dotted, 20, 320),
    token("gitlab-token", "glptt-", Hex, 40, 40),
    token("gitlab-token", "glcbt-", Dashed, 20, 64),
    token("gitlab-token", "gloas-", Hex, 64, 64),
    token("gitlab-token", "glsoat-", Dashed, 20, 64),
    checked("slack-token", "xoxb-", Dashed, 28, 260, Check::Numbered),
    checked("slack-token", "xoxp-", Dashed, 28, 260, Check::Numbered),
    checked("slack-token", "xoxa-", Dashed, 28, 260, Check::Numbered),
    checked("slack-token", "xoxr-", Dashed, 28, 260, Check::Numbered),
    checked("slack-token", "xoxs-", Dashed, 28, 260, Check::Numbered),
    checked("slack-token", "xoxe-", Dashed, 28, 260, Check::Numbered),
    checked("slack-token", "xapp-", Dashed, 28, 260, Check::Numbered),
    token("slack-webhook", "hooks.slack.com/services/", Path, 40, 60),
    token("slack-webhook", "hooks.slack.com/workflows/", Path, 40, 64),
    token("discord-webhook", "/api/webhooks/", Dashed, 0, 0),
    token("stripe-key", "sk_live_", Alnum, 16, 120),
    token("stripe-key", "sk_test_", Alnum, 16, 120),
    token("stripe-key", "rk_live_", Alnum, 16, 120),
    token("stripe-key", "rk_test_", Alnum, 16, 120),
    token("stripe-key", "whsec_", Base64, 32, 64),
    token("square-key", "sq0atp-", Dashed, 22, 22),
    token("square-key", "sq0csp-", Dashed, 43, 43),
    token("anthropic-key", "sk-ant-", Dashed, 40, 140),
    token("openai-key", "sk-proj-", Dashed, 40, 200),
    token("openai-key", "sk-svcacct-", Dashed, 40, 200),
    token("openai-key", "sk-admin-", Dashed, 40, 200),
    checked("openai-key", "sk-", Alnum, 32, 64, Check::Digits),
    token("ai-key", "sk-or-v1-", Hex, 64, 64),
    token("ai-key", "gsk_", Alnum, 48, 56),
    token("ai-key", "pplx-", Alnum, 44, 56),
    token("ai-key", "xai-", Alnum, 70, 90),
    checked("ai-key", "r8_", Alnum, 37, 37, Check::Mixed),
    token("ai-key", "hf_", Alnum, 34, 37),
    token("ai-key", "nvapi-", Dashed, 60, 70),
    token("ai-key", "lsv2_pt_", HexParts, 43, 43),
    token("ai-key", "lsv2_sk_", HexParts, 43, 43),
    token("google-api-key", "AIza", Dashed, 35, 35),
    token("google-oauth", "GOCSPX-", Dashed, 28, 28),
    token("google-oauth", "ya29.", Dashed, 40, 400),
    token("azure-key", "AccountKey=", Base64, 86, 88),
    token("cloud-token", "dop_v1_", Hex, 64, 64),
    token("cloud-token", "doo_v1_", Hex, 64, 64),
    token("cloud-token", "dor_v1_", Hex, 64, 64),
    token("cloud-token", "dapi", Hex, 32, 32),
    token("cloud-token", "HRKU-AA", Dashed, 58, 60),
    token("cloud-token", "fo1_", Dashed, 43, 43),
    token("cloud-token", "tskey-auth-", Dashed, 24, 64),
    token("cloud-token", "tskey-api-", Dashed, 24, 64),
    checked("cloud-token", "LTAI", Alnum, 20, 20, Check::Mixed),
    token("cloud-token", "sbp_", Hex, 40, 40),
    token("cloud-token", "pscale_tkn_", Dotted, 32, 64),
    token("cloud-token", "pscale_pw_", Dotted, 32, 64),
    checked("package-token", "npm_", Alnum, 36, 36, Check::Sum),
    token("package-token", "pypi-AgE", Dashed, 50, 1000),
    token("package-token", "rubygems_", Hex, 48, 48),
    token("package-token", "dckr_pat_", Dashed, 27, 32),
    checked("package-token", "AKCp", Alnum, 69, 69, Check::Mixed),
    token("infra-token", "hvs.", Dashed, 24, 130),
    token("infra-token", "hvb.", Dashed, 100, 250),
    token("infra-token", "pul-", Hex, 40, 40),
    token("infra-token", "dp.pt.", Alnum, 40, 44),
    token("infra-token", "dp.st.", Dotted, 40, 64),
    token("infra-token", "glsa_", Dashed, 41, 41),
    token("infra-token", "glc_", Base64, 40, 400),
    token("infra-token", "sntrys_", Dotted, 60, 400),
    token("infra-token", "sntryu_", Hex, 64, 64),
    token("infra-token", "NRAK-", Upper, 27, 27),
    token("infra-token", "dt0c01.", Dotted, 89, 89),
    token("saas-token", "ATATT3", Dotted, 180, 200),
    token("saas-token", "ATBB", Alnum, 32, 32),
    token("saas-token", "lin_api_", Alnum, 40, 40),
    token("saas-token", "ntn_", Alnum, 43, 50),
    token("saas-token", "figd_", Dashed, 40, 60),
    token("saas-token", "shpat_", Hex, 32, 32),
    token("saas-token", "shpss_", Hex, 32, 32),
    token("saas-token", "shpca_", Hex, 32, 32),
    token("saas-token", "shppa_", Hex, 32, 32),
    token("saas-token", "SG.", Dotted, 60, 70),
    token("saas-token", "PMAK-", HexParts, 59, 59),
    token("saas-token", "CFPAT-", Dashed, 43, 43),
    token("saas-token", "EZAK", Alnum, 54, 54),
    token("saas-token", "EZTK", Alnum, 54, 54),
    token("saas-token", "sgp_", HexParts, 40, 64),
    token("private-key", "AGE-SECRET-KEY-1", Upper, 58, 58),
];

/// Least entropy of a body, in bits a character: below it nobody has drawn lots.
const LEAST_ENTROPY: f32 = 2.6;

/// The key whose prefix begins at a place.
pub(super) fn find(text: &[u8], place: usize, token: &Token) -> Option<Found> {
    let start = place + token.prefix.len();
    if part(text, place, start) != token.prefix.as_bytes() {
        return None;
    }
    if token.length.1 == 0 {
        return discord(text, place, start);
    }
    let inside_word = is_word(before(text, place)) || (token.prefix.starts_with("sk-") && before(text, place) == b'-');
    if inside_word && token.rule != "slack-webhook" && token.rule != "azure-key" {
        return None;
    }
    let mut end = run(text, start, token.length.1 + 1, |byte| token.body.has(byte));
    // The stop of a sentence is not part of a key.
    while end > start && matches!(before(text, end), b'.' | b'-') {
        end -= 1;
    }
    let body = part(text, start, end);
    if !(token.length.0..=token.length.1).contains(&body.len()) || is_word(at(text, end)) {
        return None;
    }
    let confidence = judged(token, body)?;
    Some(Found { rule: token.rule, range: place..end, confidence })
}

/// What its check says of a body; `None` where it is no key.
fn judged(token: &Token, body: &[u8]) -> Option<Confidence> {
    let repeated = body.windows(6).any(|six| six.iter().all(|byte| six.first() == Some(byte)));
    if entropy(body) < LEAST_ENTROPY || (repeated && token.length.1 <= 100) {
        return None;
    }
    let sorts = super::text::Sorts::of(body);
    match token.check {
        Check::Sum if is_checked(body) => Some(Confidence::Certain),
        Check::OnlySum => is_checked(body).then_some(Confidence::Certain),
        Check::Mixed => {
            let hex = body.len() == 32 && body.iter().all(u8::is_ascii_hexdigit);
            (sorts.digit && (hex || (sorts.lower && sorts.upper))).then_some(Confidence::Likely)
        }
        Check::Digits => (sorts.digit && (sorts.lower || sorts.upper)).then_some(Confidence::Likely),
        Check::Numbered => {
            let digits = body.iter().take_while(|byte| byte.is_ascii_digit() || **byte == b'-').count();
            (sorts.digit && digits > 0).then_some(Confidence::Likely)
        }
        // Words with dashes between them are a name.
        Check::Form | Check::Sum if body.len() >= 24 && !sorts.digit && !sorts.upper => None,
        Check::Form | Check::Sum => Some(Confidence::Likely),
    }
}

/// `https://discord.com/api/webhooks/ID/TOKEN`.
fn discord(text: &[u8], place: usize, start: usize) -> Option<Found> {
    let host = run_back(text, place, 24, |byte| byte.is_ascii_alphanumeric() || byte == b'.');
    let named = part(text, host, place);
    let id = run(text, start, 21, |byte| byte.is_ascii_digit());
    let end = run(text, id + 1, 101, |byte| Body::Dashed.has(byte));
    let whole = (named.ends_with(b"discord.com") || named.ends_with(b"discordapp.com"))
        && (17..=20).contains(&(id - start))
        && at(text, id) == b'/'
        && (60..=100).contains(&(end.saturating_sub(id + 1)));
    whole.then_some(Found { rule: "discord-webhook", range: host..end, confidence: Confidence::Likely })
}

/// An OpenAI key around the mark that they carry in their middle.
pub(super) fn around_mark(text: &[u8], place: usize, mark: &str) -> Option<Found> {
    let is = |byte: u8| Body::Dashed.has(byte);
    let start = run_back(text, place, 170, is);
    let end = run(text, place, 180, is);
    let whole = part(text, start, end);
    let behind = end.saturating_sub(place + mark.len());
    let fits = whole.starts_with(b"sk-") && behind >= 16 && place - start >= 16 && entropy(whole) > LEAST_ENTROPY;
    fits.then_some(Found { rule: "openai-key", range: start..end, confidence: Confidence::Certain })
}

/// A Telegram bot's token, from the `:AA` in it.
pub(super) fn telegram(text: &[u8], place: usize) -> Option<Found> {
    let start = run_back(text, place, 13, |byte| byte.is_ascii_digit());
    let end = run(text, place + 1, 36, |byte| Body::Dashed.has(byte));
    let body = part(text, place + 1, end);
    // In `https://api.telegram.org/bot123:AA…` the word `bot` stands before it.
    let alone = !is_word(before(text, start)) || part(text, start.saturating_sub(3), start) == b"bot";
    let fits = (8..=12).contains(&(place - start)) && body.len() == 35 && alone && entropy(body) > 3.0;
    fits.then_some(Found { rule: "telegram-token", range: start..end, confidence: Confidence::Likely })
}

/// An Azure client secret, from the `8Q~` in it.
pub(super) fn azure(text: &[u8], place: usize) -> Option<Found> {
    let is = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'~' | b'.' | b'-');
    let start = run_back(text, place, 4, is);
    let end = run(text, place + 3, 35, is);
    let fits = place - start == 3 && (31..=34).contains(&(end - place - 3)) && entropy(part(text, start, end)) > 3.0;
    fits.then_some(Found { rule: "azure-key", range: start..end, confidence: Confidence::Likely })
}

/// A Terraform Cloud token, from the `.atlasv1.` in it.
pub(super) fn atlas(text: &[u8], place: usize, mark: &str) -> Option<Found> {
    let start = run_back(text, place, 15, |byte| byte.is_ascii_alphanumeric());
    let end = run(text, place + mark.len(), 81, |byte| Body::Dotted.has(byte));
    let range: Range<usize> = start..end;
    let fits = place - start == 14 && (60..=80).contains(&(end - place - mark.len()));
    fits.then_some(Found { rule: "infra-token", range, confidence: Confidence::Likely })
}
