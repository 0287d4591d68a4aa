//! `[approvals]`: how long a request for an approval stands, and who hears of it.

use std::time::Duration;

use url::Url;

use super::reader::Section;
use crate::domain::net::is_here;
use crate::domain::secret::Secret;

/// Shortest secret that signs.
const SHORTEST_SECRET: usize = 16;
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(30 * 24 * 3600);

/// What is done about calls that a person has to approve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApprovalSettings {
    /// How long a request, and the approval that answers it, stands.
    pub expiry: Duration,
    /// Is told of every new request.
    pub webhook: Option<Webhook>,
    /// Is run at every new request, with the request on standard input; program and arguments, no shell.
    pub command: Vec<String>,
}

/// Where new requests are posted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Webhook {
    pub url: Url,
    /// Signs each of them.
    pub secret: Secret,
}

impl Default for ApprovalSettings {
    fn default() -> Self {
        Self { expiry: Duration::from_secs(3600), webhook: None, command: Vec::new() }
    }
}

impl ApprovalSettings {
    pub(super) fn read(section: &Section<'_>) -> Self {
        let expiry = section.duration("expiry").unwrap_or(Self::default().expiry);
        if !(SHORTEST..=LONGEST).contains(&expiry) {
            section.fault(Some("expiry"), "`approvals.expiry` must be from 1s to 30d", None);
        }
        let url = section.parsed("webhook", "an https URL, or an http URL of this machine", |text| {
            let url = Url::parse(text).ok()?;
            let fits = url.username().is_empty() && url.password().is_none();
            let safe = url.scheme() == "https" || (url.scheme() == "http" && is_here(&url));
            (fits && safe).then_some(url)
        });
        let secret = section.text("webhook_secret");
        let webhook = match (url, secret) {
            (Some(url), Some(secret)) if secret.len() >= SHORTEST_SECRET => {
                Some(Webhook { url, secret: Secret::new(secret) })
            }
            (Some(_), Some(_)) => {
                let why = format!("`approvals.webhook_secret` must have at least {SHORTEST_SECRET} characters");
                section.fault(Some("webhook_secret"), why, None);
                None
            }
            (Some(_), None) => {
                let hint = "the receiver checks by it who sends: `webhook_secret = \"${WEBHOOK_SECRET}\"`";
                section.fault(Some("webhook"), "a webhook needs a `webhook_secret`", Some(hint.into()));
                None
            }
            (None, _) => None,
        };
        let command = section.texts("command").unwrap_or_default();
        if command.first().is_some_and(String::is_empty) {
            section.fault(Some("command"), "the first of `approvals.command` is the program to run", None);
        }
        section.refuse_the_rest();
        Self { expiry, webhook, command }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::file;

    fn load(text: &str) -> Result<ApprovalSettings, String> {
        let settings = file::read("t.toml", text, &|_| Some("0123456789abcdef".into()));
        settings.map(|settings| (*settings.approvals).clone()).map_err(|faults| faults.to_string())
    }

    #[test]
    fn hooks_are_read_and_their_secret_is_never_shown() {
        assert_eq!(load("").unwrap(), ApprovalSettings::default());
        let settings = load(
            "[approvals]\nexpiry = \"10min\"\nwebhook = \"https://hooks.example/x\"\nwebhook_secret = \"${S}\"\ncommand = [\"notify-send\", \"x\"]\n",
        )
        .unwrap();
        assert_eq!(settings.expiry, Duration::from_secs(600));
        assert_eq!(settings.command, ["notify-send", "x"]);
        assert_eq!(settings.webhook.as_ref().unwrap().secret.expose(), "0123456789abcdef");
        assert!(!format!("{settings:?}").contains("0123456789abcdef"));
        assert!(load("[approvals]\nwebhook = \"http://127.0.0.1:9/x\"\nwebhook_secret = \"${S}\"").is_ok());
    }

    #[test]
    fn a_hook_that_could_not_be_trusted_is_a_fault() {
        for (text, why) in [
            ("webhook = \"https://x.example/\"", "a webhook needs a `webhook_secret`"),
            ("webhook = \"https://x.example/\"\nwebhook_secret = \"short\"", "at least 16 characters"),
            ("webhook = \"http://x.example/\"\nwebhook_secret = \"${S}\"", "must be an https URL"),
            ("webhook = \"https://u:p@x.example/\"\nwebhook_secret = \"${S}\"", "must be an https URL"),
            ("expiry = \"0s\"", "must be a duration"),
            ("expiry = \"500ms\"", "from 1s to 30d"),
            ("expiry = \"31d\"", "from 1s to 30d"),
            ("command = [\"\"]", "the program to run"),
            ("comand = []", "did you mean `command`?"),
        ] {
            let said = load(&format!("[approvals]\n{text}")).unwrap_err();
            assert!(said.contains(why), "{text}: {said}");
        }
    }
}
