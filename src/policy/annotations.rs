//! What the annotations of a policy say.

use std::collections::BTreeSet;
use std::sync::Arc;

use cedar_policy::Policy as CedarPolicy;
use cedar_policy::pst::Effect;

use super::bundle::RESERVED;
use super::names::nearest;
use super::source::{Piece, PolicyFault};
use crate::domain::decision::Mode;

const MAX_ID_CHARACTERS: usize = 128;
const MAX_REASON_CHARACTERS: usize = 1000;
const MAX_APPROVERS: usize = 32;

const ANNOTATIONS: [&str; 5] = ["id", "reason", "requires", "approvers", "mode"];

/// What the annotations say.
pub(super) struct Notes {
    pub(super) id: Arc<str>,
    pub(super) reason: Option<Arc<str>>,
    pub(super) approval: bool,
    /// The roles that may approve.
    pub(super) approvers: Option<Vec<Arc<str>>>,
    pub(super) mode: Mode,
}

pub(super) fn annotations(piece: &Piece, parsed: &CedarPolicy, effect: Effect) -> (Notes, Vec<PolicyFault>) {
    let mut faults = Vec::new();
    let mut fault = |name: &str, message: String, hint: Option<String>| {
        faults.push(piece.fault(piece.annotation_offset(name), message, hint));
    };
    let mut notes = Notes {
        id: format!("{}#{}", piece.file, piece.number).into(),
        reason: None,
        approval: false,
        approvers: None,
        mode: Mode::Enforce,
    };
    let mut annotations: Vec<(&str, &str)> = parsed.annotations().collect();
    annotations.sort_unstable();
    for (name, value) in annotations {
        match (name, value) {
            ("id", id) => match bad_id(id) {
                Some(message) => fault("id", message, None),
                None => notes.id = id.into(),
            },
            ("reason", text) if text.chars().count() > MAX_REASON_CHARACTERS => {
                fault("reason", format!("the reason is longer than {MAX_REASON_CHARACTERS} characters"), None);
            }
            ("reason", "") => fault("reason", "the reason is empty".into(), Some("say why, for the caller".into())),
            ("reason", text) => notes.reason = Some(text.into()),
            ("requires", "approval") if effect == Effect::Permit => notes.approval = true,
            ("requires", "approval") => fault(
                "requires",
                "`@requires(\"approval\")` on a forbid".into(),
                Some("only a permit can wait for an approval".into()),
            ),
            ("requires", other) => fault(
                "requires",
                format!("`@requires` knows `approval`, not `{other}`"),
                Some("write `@requires(\"approval\")`".into()),
            ),
            ("approvers", list) => match roles(list) {
                Ok(roles) => notes.approvers = Some(roles),
                Err(message) => fault("approvers", message, Some("write `@approvers(\"role-a,role-b\")`".into())),
            },
            ("mode", "shadow") => notes.mode = Mode::Shadow,
            ("mode", other) => fault(
                "mode",
                format!("`@mode` knows `shadow`, not `{other}`"),
                Some("write `@mode(\"shadow\")`, or leave it out to enforce".into()),
            ),
            (other, _) => fault(other, format!("unknown annotation `@{other}`"), Some(known(other))),
        }
    }
    if notes.approvers.is_some() && !notes.approval {
        let hint = "say `@requires(\"approval\")` too, on a permit".into();
        let message = "`@approvers` where nothing is approved";
        faults.push(piece.fault(piece.annotation_offset("approvers"), message, Some(hint)));
    }
    (notes, faults)
}

/// What may have been meant by an unknown annotation.
fn known(written: &str) -> String {
    match nearest(written, ANNOTATIONS) {
        Some(known) => format!("did you mean `@{known}`?"),
        None => "known are `@id`, `@reason`, `@requires`, `@approvers` and `@mode`".into(),
    }
}

/// The names of roles, with commas between.
fn roles(list: &str) -> Result<Vec<Arc<str>>, String> {
    let names: BTreeSet<&str> = list.split(',').map(str::trim).collect();
    if names.len() > MAX_APPROVERS {
        return Err(format!("`@approvers` names more than {MAX_APPROVERS} roles"));
    }
    let odd =
        |name: &&str| name.is_empty() || name.chars().count() > MAX_ID_CHARACTERS || name.chars().any(char::is_control);
    match names.iter().find(|name| odd(name)) {
        Some(_) => Err("`@approvers` holds a name that is empty, too long or not plain text".into()),
        None => Ok(names.into_iter().map(Into::into).collect()),
    }
}

fn bad_id(id: &str) -> Option<String> {
    if id.trim().is_empty() {
        return Some("the id is empty".into());
    }
    if id.chars().count() > MAX_ID_CHARACTERS || id.chars().any(char::is_control) {
        return Some(format!("the id is longer than {MAX_ID_CHARACTERS} characters or holds control characters"));
    }
    let reserved = RESERVED.into_iter().find(|reserved| id.starts_with(reserved))?;
    Some(format!("ids that start with `{reserved}` belong to the gateway's own rules"))
}
