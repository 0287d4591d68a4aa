//! `profiles.toml`: the named grants that keys carry.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::reader::{Document, Faults, Section};
use crate::domain::glob::Glob;
use crate::domain::principal::{Profile, Scope, Surface};

/// The profiles by name.
pub type Profiles = BTreeMap<Arc<str>, Arc<Profile>>;

/// The file that ships with the program.
pub const SHIPPED: &str = include_str!("../../profiles.toml");

/// Reads a profile file: one table `[profiles.NAME]` a profile.
///
/// # Errors
/// Every fault in it.
pub fn read(file: &str, text: &str) -> Result<Profiles, Faults> {
    Document::new(file, text, &|_| None).read(|top| {
        let mut profiles = Profiles::new();
        for (name, section) in top.sections("profiles") {
            let profile = profile(&name, &section);
            profiles.insert(name.into(), Arc::new(profile));
        }
        profiles
    })
}

fn profile(name: &str, section: &Section<'_>) -> Profile {
    let mut scopes = Vec::new();
    for text in section.texts("scopes").unwrap_or_default() {
        match Scope::parse(&text) {
            Some(scope) => scopes.push(scope),
            None => {
                let known = Scope::ALL
                    .map(Scope::as_str)
                    .into_iter()
                    .min_by_key(|known| strsim::damerau_levenshtein(known, &text));
                section.fault(
                    Some("scopes"),
                    format!("there is no scope `{text}`"),
                    known.map(|known| format!("did you mean `{known}`?")),
                );
            }
        }
    }
    let profile = Profile {
        name: name.into(),
        scopes,
        allowed_tools: section.texts("allowed_tools").unwrap_or_default().iter().map(|glob| Glob::new(glob)).collect(),
        read_only: section.flag("read_only").unwrap_or_default(),
        surface: section.parsed("surface", "`search`, `direct`, `both` or `auto`", Surface::parse).unwrap_or_default(),
    };
    section.refuse_the_rest();
    profile
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shipped_file_holds_the_four_profiles() {
        let profiles = read("profiles.toml", SHIPPED).unwrap();
        assert_eq!(
            profiles.keys().map(|name| &**name).collect::<Vec<_>>(),
            ["admin", "agent", "mcp_readonly", "operator"]
        );
        assert_eq!(profiles["admin"].scopes.len(), Scope::ALL.len());
        assert_eq!(profiles["operator"].scopes.len(), Scope::ALL.len() - 1);
        assert!(profiles["mcp_readonly"].read_only);
    }

    #[test]
    fn a_wrong_scope_is_named_with_its_neighbour() {
        let faults = read("p.toml", "[profiles.x]\nscopes = [\"tool:read\"]\nsurfce = \"both\"\n").unwrap_err();
        insta::assert_snapshot!(faults, @r"
        p.toml:2:10: there is no scope `tool:read`
          hint: did you mean `tools:read`?
        p.toml:3:1: unknown key `profiles.x.surfce`
          hint: did you mean `surface`?
        ");
    }
}
