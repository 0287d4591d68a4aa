//! `[dlp]`, and `dlp = { … }` of a server or a tool.

use super::reader::Section;
use crate::domain::dlp::{DlpMode, DlpModes};
use crate::scan::{Allowed, RULES, Scanner, rule};

/// The rules in force: all but those that are disabled, and what is allowed to travel all the same.
pub(super) fn scanner(section: &Section<'_>) -> Scanner {
    let mut disabled = Vec::new();
    for id in section.texts("disable").unwrap_or_default() {
        match rule(&id) {
            Some(rule) => disabled.push(rule.id),
            None => section.fault(Some("disable"), format!("there is no rule `{id}`"), Some(nearest(&id))),
        }
    }
    let mut allowed = Vec::new();
    for text in section.texts("allow").unwrap_or_default() {
        match Allowed::parse(&text) {
            Ok(known) => allowed.push(known),
            Err(why) => section.fault(Some("allow"), why, Some("write a text, or a pattern as `/…/`".into())),
        }
    }
    section.refuse_the_rest();
    Scanner::new(disabled, allowed)
}

fn nearest(id: &str) -> String {
    let near = RULES.iter().map(|rule| (strsim::damerau_levenshtein(rule.id, id), rule.id)).min();
    match near {
        Some((distance, known)) if distance <= 2.max(id.len() / 3) => format!("did you mean `{known}`?"),
        _ => "`toolgate dlp rules` lists them".into(),
    }
}

/// What a server or a tool says, over what holds where it says nothing.
pub(super) fn modes(section: &Section<'_>, otherwise: DlpModes) -> DlpModes {
    let Some(section) = section.section("dlp") else { return otherwise };
    let mode = |key| section.parsed(key, "`off`, `observe`, `redact` or `block`", DlpMode::parse);
    let modes = DlpModes {
        arguments: mode("arguments").unwrap_or(otherwise.arguments),
        results: mode("results").unwrap_or(otherwise.results),
    };
    section.refuse_the_rest();
    modes
}

#[cfg(test)]
mod tests {
    use crate::config::file::read;
    use crate::domain::dlp::DlpMode;

    #[test]
    fn a_tool_says_more_than_its_server() {
        let text = "[dlp]\ndisable = [\"email\"]\nallow = [\"4242\", '/@corp\\.example$/']\n\
                    [servers.a]\ncommand = \"x\"\ndlp = { arguments = \"block\", results = \"redact\" }\n\
                    [servers.a.tools.t]\ndlp = { results = \"off\" }\n[servers.b]\ncommand = \"x\"\n";
        let settings = read("toolgate.toml", text, &|_| None).unwrap();
        let modes = |server: &str, tool: &str| settings.servers[&server.parse().unwrap()].tool(tool).dlp;
        assert_eq!((modes("a", "t").arguments, modes("a", "t").results), (DlpMode::Block, DlpMode::Off));
        assert_eq!((modes("a", "u").arguments, modes("a", "u").results), (DlpMode::Block, DlpMode::Redact));
        assert_eq!((modes("b", "t").arguments, modes("b", "t").results), (DlpMode::Observe, DlpMode::Observe));
        let found = |text: &str| settings.scanner.scan(text.as_bytes()).findings.len();
        assert_eq!(found("jane@mail.example"), 0, "a rule that is disabled");
        assert_eq!(found("card 4242 4242 4242 4242"), 0, "a text that is allowed");
        assert_eq!(found("card 4111 1111 1111 1111"), 1);
        assert!(!format!("{settings:?}").contains("4242"), "what is allowed may be a secret");
    }

    #[test]
    fn faults_have_their_places() {
        let text = "[dlp]\ndisable = [\"e-mail\", \"nonsense-of-mine\"]\nallow = [\"/(/\", \"\", \"/a*/\"]\nalow = 1\n\
                    [servers.a]\ncommand = \"x\"\ndlp = { arguments = \"maybe\", result = \"off\" }\n";
        let faults = read("toolgate.toml", text, &|_| None).unwrap_err();
        insta::assert_snapshot!(faults, @r"
        toolgate.toml:2:11: there is no rule `e-mail`
          hint: did you mean `email`?
        toolgate.toml:2:11: there is no rule `nonsense-of-mine`
          hint: `toolgate dlp rules` lists them
        toolgate.toml:3:9: `/(/` is not a regular expression: unclosed group
          hint: write a text, or a pattern as `/…/`
        toolgate.toml:3:9: an empty text would allow everything
          hint: write a text, or a pattern as `/…/`
        toolgate.toml:3:9: `/a*/` matches everything: say what is allowed
          hint: write a text, or a pattern as `/…/`
        toolgate.toml:4:1: unknown key `dlp.alow`
          hint: did you mean `allow`?
        toolgate.toml:7:21: `servers.a.dlp.arguments` must be `off`, `observe`, `redact` or `block`, not `maybe`
        toolgate.toml:7:30: unknown key `servers.a.dlp.result`
          hint: did you mean `results`?
        ");
    }
}
