//! The gateway itself: its log, and where it listens.

use serde_json::json;

use super::{Check, Status, View};

impl View<'_> {
    pub(super) async fn audit_chain(&self) -> Check {
        let (status, evidence) = match self.pipeline.journal.check_tail().await {
            Ok(end) => {
                let status = match (&end.fault, end.kept) {
                    (Some(_), _) => Status::Fail,
                    (None, None) => Status::Warn,
                    (None, Some(_)) => Status::Pass,
                };
                let lost = self.pipeline.journal.lost_entries();
                let status = status.max(Status::unless(lost > 0, Status::Fail));
                let evidence = json!({
                    "entries": end.seq, "checked": end.checked, "fault": end.fault, "head_kept_at": end.kept,
                    "lost_entries": lost, "durability": self.state.settings.audit.durability.as_str(),
                });
                (status, evidence)
            }
            Err(error) => (Status::Fail, json!({"error": error.to_string()})),
        };
        Check {
            id: "audit-chain",
            title: "the end of the audit log is whole",
            status,
            evidence,
            remedy: "run `toolgate audit verify` for the whole log; compare its head with one kept elsewhere",
        }
    }

    pub(super) fn listening(&self) -> Check {
        let settings = &self.state.settings.gateway;
        let proxied = !settings.trusted_proxies.is_empty();
        let (status, evidence) = match self.surroundings.listening.get() {
            None => (Status::Pass, json!({"serving": false})),
            Some((address, tls)) => {
                let exposed = !address.ip().is_loopback() && !tls;
                // Behind a proxy it may be the proxy that speaks TLS; nobody here knows.
                let status = Status::unless(exposed, if proxied { Status::Warn } else { Status::Fail });
                let evidence = json!({
                    "serving": true, "address": address.to_string(), "tls": tls,
                    "loopback": address.ip().is_loopback(), "trusted_proxies": settings.trusted_proxies.len(),
                });
                (status, evidence)
            }
        };
        Check {
            id: "listening",
            title: "keys do not travel in the clear",
            status,
            evidence,
            remedy: "set `gateway.tls`, or listen on 127.0.0.1 behind a proxy that speaks TLS",
        }
    }
}
