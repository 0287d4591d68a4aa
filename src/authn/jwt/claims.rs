//! What a believed token says.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::domain::clock::Moment;

/// Roles of one token that count.
const MAX_ROLES: usize = 200;
/// Characters of a name that a token gives.
const MAX_NAME: usize = 200;

/// The claims of a token whose signature, issuer, audience and time are right.
#[derive(Debug, Clone)]
pub struct Claims {
    all: Map<String, Value>,
    roles_claim: Arc<str>,
}

impl Claims {
    pub(super) fn new(all: Map<String, Value>, roles_claim: &Arc<str>) -> Self {
        Self { all, roles_claim: Arc::clone(roles_claim) }
    }

    /// A claim that is a text.
    #[must_use]
    pub fn text(&self, name: &str) -> Option<&str> {
        self.at(name)?.as_str()
    }

    /// A claim that names somebody or something: short, and of nothing but visible characters.
    #[must_use]
    pub fn name(&self, name: &str) -> Option<Arc<str>> {
        self.text(name).filter(|text| is_name(text)).map(Into::into)
    }

    /// The roles: a list of texts, or one.
    #[must_use]
    pub fn roles(&self) -> BTreeSet<Arc<str>> {
        words(self.at(&self.roles_claim), false)
    }

    /// What the token may be used for: `scope`, or the `scp` of some issuers; a text of words, or a list.
    #[must_use]
    pub fn scopes(&self) -> BTreeSet<Arc<str>> {
        words(self.all.get("scope").or_else(|| self.all.get("scp")), true)
    }

    /// When the token ends.
    #[must_use]
    pub fn expires(&self) -> Option<Moment> {
        moment(self.all.get("exp")?)
    }

    /// When it begins; an error where the claim is no time.
    pub(super) fn not_before(&self) -> Option<Result<Moment, ()>> {
        self.all.get("nbf").map(|value| moment(value).ok_or(()))
    }

    /// A claim by its name; where there is none of this name, by a path with dots.
    fn at(&self, name: &str) -> Option<&Value> {
        if let Some(found) = self.all.get(name) {
            return Some(found);
        }
        let mut steps = name.split('.');
        let first = self.all.get(steps.next()?)?;
        steps.try_fold(first, |value, step| value.get(step))
    }
}

fn is_name(text: &str) -> bool {
    !text.trim().is_empty() && text.chars().count() <= MAX_NAME && !text.chars().any(char::is_control)
}

/// A list of names, or one text: split where it holds several.
fn words(value: Option<&Value>, several: bool) -> BTreeSet<Arc<str>> {
    let named = |text: &str| is_name(text).then(|| Arc::from(text));
    match value {
        Some(Value::String(text)) if several => text.split(' ').filter_map(named).take(MAX_ROLES).collect(),
        Some(Value::String(text)) => named(text).into_iter().collect(),
        Some(Value::Array(items)) => items.iter().filter_map(Value::as_str).filter_map(named).take(MAX_ROLES).collect(),
        _ => BTreeSet::new(),
    }
}

/// Seconds since 1970, with or without a fraction.
fn moment(value: &Value) -> Option<Moment> {
    let millis = match (value.as_i64(), value.as_f64()) {
        (Some(seconds), _) => seconds.checked_mul(1000)?,
        (None, Some(seconds)) if seconds.abs() < 1e14 => (seconds * 1000.0) as i64,
        _ => return None,
    };
    Some(Moment(millis))
}
