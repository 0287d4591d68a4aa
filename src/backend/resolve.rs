//! What a caller means by a name: one tool, none, or several, among those that it can see.

use std::sync::Arc;

use super::catalog::{Catalog, Entry};
use super::names::flat_name;
use crate::domain::call::ToolRef;
use crate::domain::id::ToolId;
use crate::domain::tool::Tool;

/// What a name was taken for.
#[derive(Debug)]
pub enum Resolved {
    One(Arc<Tool>),
    /// Nothing visible has this name; see [`Catalog::nearest`].
    None,
    /// The name has several readings.
    Several(Vec<ToolId>),
}

/// Ways to write the border between server and tool, beside the canonical `:`.
const SEPARATORS: [&str; 4] = [":", "/", ".", "__"];
/// How many near names are given, and how near they have to be (0 to 1).
const NEAREST: usize = 3;
const NEAR: f64 = 0.55;
/// Longer names are near to none, and of the likely ones so many are compared letter by letter.
const LONGEST_NEAR: usize = 64;
const COMPARED: usize = 64;
/// A name longer than this is nobody's.
const LONGEST: usize = 256;

impl Catalog {
    /// Reads `asked` among the tools for which `visible` holds; what is hidden is as if it were not there.
    ///
    /// The canonical id (`server:tool`, or the pair) comes first and costs one look-up; then `server/tool`,
    /// `server.tool`, `server__tool`, the flat name, and for a pair the tool with its server in front. An exact tool has
    /// its id alone, and nothing is near it.
    pub fn resolve(&self, asked: &ToolRef, visible: impl Fn(&Tool) -> bool) -> Resolved {
        let exact = match asked {
            ToolRef::Pair { server, tool } | ToolRef::Exact { server, tool } => self.get(server, tool),
            // Of a backend's prompts and resources the catalogue knows nothing.
            ToolRef::Prompt { .. } | ToolRef::Resource { .. } => None,
            ToolRef::Text(text) => text.split_once(':').and_then(|(server, tool)| self.get(server, tool)),
        };
        if let Some(entry) = exact.filter(|entry| visible(entry.tool())) {
            return Resolved::One(Arc::clone(entry.tool()));
        }
        let mut found = match asked {
            ToolRef::Pair { server, tool } => self.read_pair(server, tool),
            ToolRef::Text(text) => self.read_text(text),
            ToolRef::Exact { .. } | ToolRef::Prompt { .. } | ToolRef::Resource { .. } => {
                return Resolved::None;
            }
        };
        found.retain(|entry| visible(entry.tool()));
        found.sort_by(|a, b| a.tool().label.cmp(&b.tool().label));
        found.dedup_by(|a, b| Arc::ptr_eq(a, b));
        match found.as_slice() {
            [] => Resolved::None,
            [one] => Resolved::One(Arc::clone(one.tool())),
            several => Resolved::Several(several.iter().map(|entry| entry.tool().id.clone()).collect()),
        }
    }

    fn read_text<'a>(&'a self, text: &str) -> Vec<&'a Arc<Entry>> {
        if text.len() > LONGEST {
            return Vec::new();
        }
        let mut found: Vec<&Arc<Entry>> = self.by_flat(text).into_iter().collect();
        for separator in SEPARATORS {
            for (at, _) in text.match_indices(separator) {
                let (Some(server), Some(tool)) = (text.get(..at), text.get(at + separator.len()..)) else { continue };
                found.extend(self.get(server, tool));
            }
        }
        // `__` overlaps with itself: `a___b` is `a_` and `b` as well as `a` and `_b`.
        for (at, _) in text.char_indices().filter(|(at, _)| text.get(*at..).is_some_and(|rest| rest.starts_with("__")))
        {
            if let (Some(server), Some(tool)) = (text.get(..at), text.get(at + 2..)) {
                found.extend(self.get(server, tool));
            }
        }
        found
    }

    fn read_pair<'a>(&'a self, server: &str, tool: &str) -> Vec<&'a Arc<Entry>> {
        if server.len() + tool.len() > LONGEST {
            return Vec::new();
        }
        let mut found: Vec<&Arc<Entry>> = SEPARATORS
            .into_iter()
            .filter_map(|separator| self.get(server, tool.strip_prefix(server)?.strip_prefix(separator)?))
            .collect();
        // The tool as a direct list shows it, or as it stands behind the server's name there.
        let of_server = |entry: &&Arc<Entry>| entry.tool().id.server.as_str() == server;
        found.extend(self.by_flat(tool).filter(of_server));
        if self.has_server(server) {
            found.extend(self.by_flat(&flat_name(server, tool)).filter(of_server));
        }
        found
    }

    /// The visible labels nearest to a name that is nobody's, best first. The work is bounded, however many tools there are.
    pub fn nearest(&self, asked: &ToolRef, visible: impl Fn(&Tool) -> bool) -> Vec<String> {
        let (ToolRef::Pair { .. } | ToolRef::Text(_)) = asked else { return Vec::new() };
        let plain = plain(&asked.label());
        if plain.len() > LONGEST_NEAR {
            return Vec::new();
        }
        let tail = plain.rsplit_once(':').map_or(plain.as_str(), |(_, tool)| tool);
        let mut likely: Vec<(f64, &Arc<Entry>)> = self
            .entries()
            .iter()
            .map(|entry| (at_best(&plain, &entry.tool().label).max(at_best(tail, &entry.tool().id.tool)), entry))
            .filter(|(best, _)| *best >= NEAR)
            .collect();
        likely.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.tool().label.cmp(&b.1.tool().label)));
        likely.truncate(COMPARED);
        let mut ranked: Vec<(f64, &Arc<Entry>)> = likely
            .into_iter()
            .filter_map(|(_, entry)| {
                let tool = entry.tool();
                let whole = strsim::normalized_damerau_levenshtein(&plain, &tool.label);
                let name = strsim::normalized_damerau_levenshtein(tail, &tool.id.tool);
                let score = whole.max(name);
                (score >= NEAR).then_some((score, entry))
            })
            .collect();
        ranked.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.tool().label.cmp(&b.1.tool().label)));
        let visible = ranked.into_iter().filter(|(_, entry)| visible(entry.tool()));
        visible.take(NEAREST).map(|(_, entry)| entry.tool().label.to_string()).collect()
    }
}

/// How near two texts are at best: by how often each byte stands in them, which is cheap to count.
fn at_best(one: &str, other: &str) -> f64 {
    let longest = one.len().max(other.len());
    if longest == 0 || one.len().min(other.len()) * 2 < longest {
        return 0.0;
    }
    let mut counts = [0_i32; 256];
    for (text, step) in [(one, 1), (other, -1)] {
        for byte in text.bytes() {
            if let Some(count) = counts.get_mut(usize::from(byte)) {
                *count += step;
            }
        }
    }
    let more: i32 = counts.iter().filter(|count| **count > 0).sum();
    let less: i32 = counts.iter().filter(|count| **count < 0).sum();
    1.0 - f64::from(more.max(-less)) / longest as f64
}

/// The canonical spelling that a text most likely stands for, to compare it with labels.
fn plain(asked: &str) -> String {
    for separator in [":", "/", "__", "."] {
        if let Some((server, tool)) = asked.split_once(separator) {
            return format!("{server}:{tool}");
        }
    }
    asked.to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::catalog::tests::catalog;
    use super::*;

    fn one(catalog: &Catalog, asked: &ToolRef) -> String {
        match catalog.resolve(asked, |_| true) {
            Resolved::One(tool) => tool.label.to_string(),
            other => format!("{other:?}"),
        }
    }

    fn text(asked: &str) -> ToolRef {
        ToolRef::Text(asked.into())
    }

    fn pair(server: &str, tool: &str) -> ToolRef {
        ToolRef::Pair { server: server.into(), tool: tool.into() }
    }

    #[test]
    fn every_spelling_is_understood() {
        let catalog = catalog(&[("github", &["list_repos", "a__b", "R&D"]), ("my.server", &["x"])]);
        for asked in ["github:list_repos", "github/list_repos", "github.list_repos", "github__list_repos"] {
            assert_eq!(one(&catalog, &text(asked)), "github:list_repos");
            assert_eq!(one(&catalog, &pair("github", asked)), "github:list_repos");
        }
        assert_eq!(one(&catalog, &pair("github", "list_repos")), "github:list_repos");
        assert_eq!(one(&catalog, &text("github__a__b")), "github:a__b");
        assert_eq!(one(&catalog, &text("github__R_D")), "github:R&D");
        assert_eq!(one(&catalog, &pair("github", "R_D")), "github:R&D");
        for asked in ["my.server:x", "my.server.x", "my.server/x", "my_server__x"] {
            assert_eq!(one(&catalog, &text(asked)), "my.server:x", "{asked}");
        }
    }

    #[test]
    fn two_readings_are_an_error_unless_only_one_is_visible() {
        let catalog = catalog(&[("a", &["b.c"]), ("a.b", &["c"])]);
        assert!(matches!(catalog.resolve(&text("a.b.c"), |_| true), Resolved::Several(ids) if ids.len() == 2));
        let hidden = |tool: &Tool| &*tool.label != "a:b.c";
        assert!(matches!(catalog.resolve(&text("a.b.c"), hidden), Resolved::One(tool) if &*tool.label == "a.b:c"));
        assert_eq!(one(&catalog, &text("a:b.c")), "a:b.c", "the canonical id is never ambiguous");
    }

    #[test]
    fn the_nearest_are_visible_ones() {
        let catalog = catalog(&[("github", &["list_repos", "list_issues", "create_issue"])]);
        for asked in ["github:list_repo", "list_repos", "list_reops"] {
            assert!(matches!(catalog.resolve(&text(asked), |_| true), Resolved::None));
            assert_eq!(catalog.nearest(&text(asked), |_| true)[0], "github:list_repos", "{asked}");
        }
        let hidden = |tool: &Tool| &*tool.id.tool != "list_repos";
        assert!(matches!(catalog.resolve(&text("github:list_repos"), hidden), Resolved::None));
        let nearest = catalog.nearest(&text("github:list_repos"), hidden);
        assert!(!nearest.iter().any(|label| label.contains("repos")), "{nearest:?}");
        assert!(catalog.nearest(&text(&"x".repeat(10_000)), |_| true).is_empty());
    }

    #[test]
    fn a_name_that_is_nobody_s_costs_little_among_many_tools() {
        let names: Vec<String> = (0..9_000).map(|n| format!("{}{n:05}", "tool_of_many_".repeat(9))).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let catalog = catalog(&[("up", &names), ("github", &["list_repos"])]);
        let (asked, looked) = (text("github:list_rpeos"), std::cell::Cell::new(0));
        let visible = |_: &Tool| {
            looked.set(looked.get() + 1);
            true
        };
        assert_eq!(catalog.nearest(&asked, visible), ["github:list_repos"]);
        assert!(looked.get() <= NEAREST, "only what is near is looked at");
        assert!(catalog.nearest(&text(&"tool_of_many_".repeat(4)), |_| true).len() <= NEAREST);
    }

    #[test]
    fn no_text_is_nearer_than_its_letters_allow() {
        for (one, other) in [("list_repos", "list_reops"), ("abc", "abd"), ("", "x"), ("é", "e"), ("aaaa", "aaab")] {
            assert!(at_best(one, other) >= strsim::normalized_damerau_levenshtein(one, other) - 0.5, "{one} {other}");
        }
        assert!((at_best("abc", "cab") - 1.0).abs() < f64::EPSILON);
        assert!(at_best("abc", "xyz") < f64::EPSILON);
    }

    proptest! {
        #[test]
        fn flat_names_and_ids_are_a_bijection(
            names in prop::collection::btree_set("[a-c_. &]{1,5}", 1..8),
        ) {
            let names: Vec<&str> = names.iter().map(String::as_str).filter(|name| name.trim() == *name).collect();
            let catalog = catalog(&[("s", &names)]);
            prop_assert!(catalog.warnings().is_empty());
            for entry in catalog.entries() {
                let label = entry.tool().label.to_string();
                prop_assert_eq!(one(&catalog, &text(&label)), label.clone());
                prop_assert_eq!(catalog.by_flat(&entry.flat).map(|e| e.tool().label.to_string()), Some(label));
            }
        }
    }
}
