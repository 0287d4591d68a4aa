//! Queries that are a tool's name.

/// The one spelling of all that a name may be written as: `server:tool`, `server.tool`, `server__tool`, `Server/Tool`.
///
/// Empty for a text that cannot be a name: with white space, or too long.
pub(super) fn spelling(text: &str) -> String {
    let text = text.trim();
    let mut key = String::with_capacity(text.len().min(NAME_BYTES));
    if text.len() > NAME_BYTES || text.contains(char::is_whitespace) {
        return key;
    }
    for part in text.split(|c: char| !c.is_alphanumeric()).filter(|part| !part.is_empty()) {
        if !key.is_empty() {
            key.push('_');
        }
        key.extend(part.chars().flat_map(char::to_lowercase));
    }
    key
}

/// Bytes of a text that may be a name.
const NAME_BYTES: usize = 512;

#[cfg(test)]
mod tests {
    use super::spelling;

    #[test]
    fn spellings_of_a_name_are_one() {
        for text in ["github:create_issue", "GitHub.create-issue", " github__create_issue\n", "github/create_issue"] {
            assert_eq!(spelling(text), "github_create_issue", "{text}");
        }
        assert_eq!(spelling("create issue"), "");
        assert_eq!(spelling("::"), "");
    }
}
