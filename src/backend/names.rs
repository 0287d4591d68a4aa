//! Flat names: what stands for `server:tool` where a host accepts only `[A-Za-z0-9_-]{1,64}`.

use crate::domain::id::ServerName;
use crate::domain::json::sha256_hex;

const SEPARATOR: &str = "__";
const LONGEST: usize = 64;

/// `server__tool` with every other character as `_`; what is too long is cut and ends with a digest of the id.
#[must_use]
pub fn flat_name(server: &str, tool: &str) -> String {
    let plain = plain_name(server, tool);
    if plain.len() <= LONGEST { plain } else { digested_name(server, tool) }
}

fn plain_name(server: &str, tool: &str) -> String {
    let mut name = flat_text(server);
    name.push_str(SEPARATOR);
    name.push_str(&flat_text(tool));
    name
}

/// The flat name for a tool whose plain one is taken: unique by its digest.
pub(crate) fn digested_name(server: &str, tool: &str) -> String {
    let digest = sha256_hex(format!("{server}:{tool}").as_bytes());
    let mut name = plain_name(server, tool);
    name.truncate(LONGEST - 9);
    name.push('_');
    name.push_str(digest.get(..8).unwrap_or_default());
    name
}

/// True where the flat name says the same as the id, character by character.
pub(crate) fn is_exact(server: &str, tool: &str) -> bool {
    flat_text(server) == server && flat_text(tool) == tool && server.len() + tool.len() + 2 <= LONGEST
}

fn flat_text(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' || c == '-' { c } else { '_' }).collect()
}

/// Two servers whose tools could have the same flat name: the second would be read as the first.
///
/// Where no `server__` begins with another one, a flat name belongs to one server alone.
#[must_use]
pub fn colliding<'a>(servers: impl IntoIterator<Item = &'a ServerName>) -> Vec<(ServerName, ServerName)> {
    let mut prefixes: Vec<(String, &ServerName)> =
        servers.into_iter().map(|server| (flat_text(server.as_str()) + SEPARATOR, server)).collect();
    prefixes.sort();
    let mut found = Vec::new();
    for (at, (prefix, first)) in prefixes.iter().enumerate() {
        let rest = prefixes.get(at + 1..).unwrap_or_default();
        found.extend(
            rest.iter()
                .take_while(|(other, _)| other.starts_with(prefix.as_str()))
                .map(|(_, second)| ((*first).clone(), (*second).clone())),
        );
    }
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_safe_and_stable() {
        assert_eq!(flat_name("github", "list_repos"), "github__list_repos");
        assert_eq!(flat_name("a.b", "R&D report"), "a_b__R_D_report");
        let long = flat_name("github", &"x".repeat(100));
        assert_eq!(long.len(), 64);
        assert_ne!(long, flat_name("github", &"x".repeat(101)));
    }

    #[test]
    fn servers_that_could_be_mistaken_are_found() {
        let names = |list: &[&str]| -> Vec<ServerName> { list.iter().map(|n| n.parse().unwrap()).collect() };
        for list in [["a.b", "a_b"], ["a", "a__b"], ["a", "a_"], ["x-y.z", "x-y_z"]] {
            assert_eq!(colliding(&names(&list)).len(), 1, "{list:?}");
        }
        assert!(colliding(&names(&["a", "b", "ab", "a_b", "github", "github2"])).is_empty());
    }

    proptest! {
        #[test]
        fn a_flat_name_fits_every_host(server in "[A-Za-z0-9_.-]{1,64}", tool in "\\PC{1,80}") {
            let name = flat_name(&server, &tool);
            prop_assert!(!name.is_empty() && name.len() <= 64);
            prop_assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-'));
        }

        #[test]
        fn servers_that_do_not_collide_share_no_plain_name(
            a in "[ab_.]{1,4}", b in "[ab_.]{1,4}", x in "[ab_]{1,4}", y in "[ab_]{1,4}",
        ) {
            let servers: Vec<ServerName> = vec![a.parse().unwrap(), b.parse().unwrap()];
            if a != b && colliding(&servers).is_empty() {
                prop_assert_ne!(flat_name(&a, &x), flat_name(&b, &y));
            }
        }
    }
}
