//! Paths: where they point, however they are spelled.

use percent_encoding::percent_decode_str;

use super::vocabulary::{Effect, Effects};

/// A decoder that decodes what is already decoded is the usual fault; three times is the most seen.
const DECODINGS: usize = 3;
const MAX_BYTES: usize = 16 * 1024;

/// Directories of the operating system, below the root, in lower case.
const SYSTEM: &[&str] = &[
    "etc",
    "proc",
    "sys",
    "dev",
    "boot",
    "bin",
    "sbin",
    "lib",
    "lib64",
    "usr",
    "root",
    "run",
    "windows",
    "winnt",
    "program files",
    "program files (x86)",
    "programdata",
    "system",
    "library",
];

/// Directories and files of credentials, in lower case.
const SECRETS: &[&str] = &[
    ".ssh",
    ".aws",
    ".azure",
    ".gcloud",
    ".gnupg",
    ".kube",
    ".docker",
    ".netrc",
    "_netrc",
    ".npmrc",
    ".pypirc",
    ".pgpass",
    ".my.cnf",
    ".git-credentials",
    ".htpasswd",
    ".vault-token",
    ".bash_history",
    ".zsh_history",
    "shadow",
    "gshadow",
    "sudoers",
    "id_rsa",
    "id_dsa",
    "id_ecdsa",
    "id_ed25519",
    "authorized_keys",
    "credentials",
    "credentials.json",
    "secrets.json",
    "secrets.yaml",
    "secrets.yml",
    "environ",
    "ntds.dit",
    "sam",
];

const SECRET_ENDINGS: &[&str] = &[".pem", ".key", ".p12", ".pfx", ".kdbx", ".keystore", ".jks"];

/// What using `text` as a path would touch.
pub(super) fn recognise(text: &str) -> Effects {
    let text = text.trim();
    if text.is_empty() || text.len() > MAX_BYTES {
        return Effects::NONE;
    }
    let mut effects = of_spelling(text);
    let mut spelling = text.to_owned();
    for _ in 0..DECODINGS {
        if !spelling.contains('%') {
            break;
        }
        let decoded = decode(&spelling);
        if decoded == spelling {
            break;
        }
        effects |= of_spelling(&decoded);
        spelling = decoded;
    }
    effects
}

/// One round of percent-decoding, with the overlong and `%u` forms that lenient decoders accept.
fn decode(text: &str) -> String {
    let text = text
        .replace("%c0%ae", ".")
        .replace("%C0%AE", ".")
        .replace("%c0%af", "/")
        .replace("%C0%AF", "/")
        .replace("%c1%9c", "\\")
        .replace("%C1%9C", "\\")
        .replace("%u002e", ".")
        .replace("%u002E", ".")
        .replace("%u2215", "/")
        .replace("%u2216", "\\");
    percent_decode_str(&text).decode_utf8_lossy().into_owned()
}

fn of_spelling(text: &str) -> Effects {
    let mut effects = Effects::NONE;
    let rooted = has_root(text);
    if rooted {
        effects |= Effect::PathAbsolute;
    }
    if ["~", "$HOME", "${HOME}", "%USERPROFILE%", "%HOMEPATH%", "$env:"].iter().any(|home| text.starts_with(home)) {
        effects |= Effect::PathHome;
    }
    let (parts, climbs) = resolve(text);
    if climbs {
        effects |= Effect::PathTraversal;
    }
    // A path that climbs may end up at the root.
    let first = parts.first().map(String::as_str).unwrap_or_default();
    if (rooted || climbs) && (SYSTEM.contains(&first) || private_system(&parts)) {
        effects |= Effect::PathSystem;
    }
    if parts.iter().any(|part| is_secret(part)) {
        effects |= Effect::PathSecret;
    }
    effects
}

fn has_root(text: &str) -> bool {
    let drive = matches!(text.as_bytes(), [letter, b':', ..] if letter.is_ascii_alphabetic());
    drive || text.starts_with(['/', '\\'])
}

/// The segments in lower case with `.` and `..` resolved, and whether there was a `..`.
fn resolve(text: &str) -> (Vec<String>, bool) {
    let mut parts: Vec<String> = Vec::new();
    let mut climbs = false;
    for segment in text.split(['/', '\\', '\0']) {
        // Windows ignores spaces at the end of a segment; servers of Java cut it at `;`.
        let segment = segment.split(';').next().unwrap_or(segment).trim();
        match segment {
            "" | "." | "?" => {}
            ".." => {
                climbs = true;
                parts.pop();
            }
            drive if parts.is_empty() && drive.len() == 2 && drive.ends_with(':') => {}
            name => parts.push(name.trim_end_matches('.').to_lowercase()),
        }
    }
    (parts, climbs)
}

/// `/private/etc` (macOS), `/var/run`, `/var/lib`: system directories one step further down.
fn private_system(parts: &[String]) -> bool {
    let mut parts = parts.iter().map(String::as_str);
    match (parts.next(), parts.next()) {
        (Some("private"), Some(second)) => second == "etc" || second == "var",
        (Some("var"), Some(second)) => matches!(second, "run" | "lib" | "spool" | "log"),
        _ => false,
    }
}

fn is_secret(part: &str) -> bool {
    SECRETS.contains(&part)
        || part == ".env"
        || part.starts_with(".env.")
        || SECRET_ENDINGS.iter().any(|ending| part.len() > ending.len() && part.ends_with(ending))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_point_where_they_point() {
        let cases: &[(&str, &[&str])] = &[
            ("notes.txt", &[]),
            ("src/main.rs", &[]),
            ("a..b/c...d", &[]),
            ("...", &[]),
            ("", &[]),
            ("../x", &["path.traversal"]),
            ("a/../b", &["path.traversal"]),
            ("a\\..\\b", &["path.traversal"]),
            ("..", &["path.traversal"]),
            ("%2e%2e/x", &["path.traversal"]),
            ("%2e%2e%2fx", &["path.traversal"]),
            ("..%5cx", &["path.traversal"]),
            ("%252e%252e%252fx", &["path.traversal"]),
            ("..%c0%afx", &["path.traversal"]),
            ("%C0%AE%C0%AE/x", &["path.traversal"]),
            ("a/.. /b", &["path.traversal"]),
            ("a/..;/b", &["path.traversal"]),
            ("../../etc/passwd", &["path.system", "path.traversal"]),
            ("/tmp/../etc/hosts", &["path.absolute", "path.system", "path.traversal"]),
            ("/etc/passwd", &["path.absolute", "path.system"]),
            ("//etc//./passwd", &["path.absolute", "path.system"]),
            ("/etc/shadow", &["path.absolute", "path.secret", "path.system"]),
            ("/proc/self/environ", &["path.absolute", "path.secret", "path.system"]),
            ("/home/me/x", &["path.absolute"]),
            ("etc/passwd", &[]),
            ("C:\\Windows\\System32\\config\\SAM", &["path.absolute", "path.secret", "path.system"]),
            ("c:/windows/win.ini", &["path.absolute", "path.system"]),
            ("\\\\server\\share", &["path.absolute"]),
            ("\\\\?\\C:\\Windows", &["path.absolute", "path.system"]),
            ("~/notes", &["path.home"]),
            ("~root/x", &["path.home"]),
            ("$HOME/.ssh/id_rsa", &["path.home", "path.secret"]),
            ("~/.ssh/config", &["path.home", "path.secret"]),
            (".env", &["path.secret"]),
            ("app/.env.production", &["path.secret"]),
            (".environment", &[]),
            ("certs/server.pem", &["path.secret"]),
            (".AWS/Credentials", &["path.secret"]),
        ];
        for (text, expected) in cases {
            assert_eq!(recognise(text).names(), *expected, "{text}");
        }
    }
}
