//! Flat names: what stands for `server:tool` where a host accepts only `[A-Za-z0-9_-]{1,64}`.

use crate::domain::id::{FLAT_SEPARATOR, flat};
use crate::domain::json::sha256_hex;

const LONGEST: usize = 64;

/// `server__tool` with every other character as `_`; what is too long is cut and ends with a digest of the id.
#[must_use]
pub fn flat_name(server: &str, tool: &str) -> String {
    let plain = plain_name(server, tool);
    if plain.len() <= LONGEST { plain } else { digested_name(server, tool) }
}

/// Whether a flat name may be one of this server's.
#[must_use]
pub fn may_be_of(server: &str, name: &str) -> bool {
    // A long one may be cut within the server's own.
    name.len() >= LONGEST || name.starts_with(&plain_name(server, ""))
}

fn plain_name(server: &str, tool: &str) -> String {
    let mut name = flat(server);
    name.push_str(FLAT_SEPARATOR);
    name.push_str(&flat(tool));
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
    flat(server) == server && flat(tool) == tool && server.len() + tool.len() + 2 <= LONGEST
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::id::ServerName;

    #[test]
    fn names_are_safe_and_stable() {
        assert_eq!(flat_name("github", "list_repos"), "github__list_repos");
        assert_eq!(flat_name("a.b", "R&D report"), "a_b__R_D_report");
        let long = flat_name("github", &"x".repeat(100));
        assert_eq!(long.len(), 64);
        assert_ne!(long, flat_name("github", &"x".repeat(101)));
    }

    proptest! {
        #[test]
        fn a_flat_name_fits_every_host(server in "[A-Za-z0-9_.-]{1,64}", tool in "\\PC{1,80}") {
            let name = flat_name(&server, &tool);
            prop_assert!(!name.is_empty() && name.len() <= 64);
            prop_assert!(may_be_of(&server, &name));
            prop_assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-'));
        }

        #[test]
        fn servers_that_do_not_collide_share_no_plain_name(
            a in "[ab_.]{1,4}", b in "[ab_.]{1,4}", x in "[ab_]{1,4}", y in "[ab_]{1,4}",
        ) {
            let servers: [ServerName; 2] = [a.parse().unwrap(), b.parse().unwrap()];
            if !servers[0].collides_with(&servers[1]) {
                prop_assert_ne!(flat_name(&a, &x), flat_name(&b, &y));
            }
        }
    }
}
