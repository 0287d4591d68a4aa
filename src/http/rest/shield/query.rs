//! What a query string asks: only what is known, each once. And the cursors that lead from page to page.

use std::collections::HashMap;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::Uri;
use url::form_urlencoded;

use super::super::super::caller::Caller;
use super::super::enter;
use super::{No, invalid};
use crate::domain::principal::Scope;
use crate::gateway::Gateway;

/// Items of a page, unless more or fewer are asked for.
const DEFAULT_LIMIT: usize = 50;
const MAX_LIMIT: usize = 200;

/// The parameters of one request.
#[derive(Debug)]
pub(super) struct Query(HashMap<String, String>);

impl Query {
    /// Reads the query string.
    pub(super) fn read(uri: &Uri, known: &[&str]) -> Result<Self, No> {
        let mut found = HashMap::new();
        for (name, value) in form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()) {
            if !known.contains(&&*name) {
                let name: String = name.chars().filter(|c| !c.is_control()).take(80).collect();
                return Err(invalid(&format!("unknown parameter `{name}`: known are `{}`", known.join("`, `"))));
            }
            if found.insert(name.to_string(), value.into_owned()).is_some() {
                return Err(invalid(&format!("the parameter `{name}` stands twice")));
            }
        }
        Ok(Self(found))
    }

    /// Reads the query string of a call. One that cannot be read is no call: it is charged as what it is, and told to whoever
    /// has the scope.
    pub(super) fn of_call(
        gateway: &Gateway,
        caller: &Caller,
        scope: Scope,
        uri: &Uri,
        known: &[&str],
    ) -> Result<Self, No> {
        Self::read(uri, known).map_err(|no| match enter(gateway, caller, scope) {
            Ok(()) => no,
            Err(refused) => refused.into(),
        })
    }

    /// A text; an empty one is none.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.given(name).filter(|text| !text.is_empty())
    }

    /// A value as it is given, be it empty.
    pub(super) fn given(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// A value that `parse` understands; `expected` says what it should be.
    pub(super) fn parsed<T>(
        &self,
        name: &str,
        expected: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, No> {
        let Some(text) = self.0.get(name) else { return Ok(None) };
        parse(text).map(Some).ok_or_else(|| invalid(&format!("`{name}` must be {expected}")))
    }

    /// One of these words.
    pub(super) fn word(&self, name: &str, words: &[&str]) -> Result<Option<String>, No> {
        let expected = format!("one of `{}`", words.join("`, `"));
        self.parsed(name, &expected, |text| words.contains(&text).then(|| text.to_owned()))
    }

    pub(super) fn flag(&self, name: &str) -> Result<bool, No> {
        let word = self.word(name, &["true", "false"])?;
        Ok(word.as_deref() == Some("true"))
    }

    /// How many items a page has.
    pub(super) fn limit(&self) -> Result<usize, No> {
        let expected = format!("a number from 1 to {MAX_LIMIT}");
        let fits = |text: &str| text.parse().ok().filter(|limit| (1..=MAX_LIMIT).contains(limit));
        Ok(self.parsed("limit", &expected, fits)?.unwrap_or(DEFAULT_LIMIT))
    }

    /// Where the page begins: what [`cursor`] was made of, a text or a number.
    pub(super) fn place<T: FromStr>(&self, kind: &str) -> Result<Option<T>, No> {
        if self.text("cursor").is_none() {
            return Ok(None);
        }
        self.parsed("cursor", "the `next_cursor` of an earlier page of this list", |text| {
            let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
            std::str::from_utf8(&bytes).ok()?.strip_prefix(kind)?.strip_prefix('\n')?.parse().ok()
        })
    }
}

/// The page that the first items of a list are, and where the next begins if there are more.
pub(super) fn cut<T>(
    mut items: Vec<T>,
    limit: usize,
    kind: &str,
    place: impl Fn(&T) -> String,
) -> (Vec<T>, Option<String>) {
    let more = items.len() > limit;
    items.truncate(limit);
    let next = items.last().filter(|_| more).map(|last| cursor(kind, &place(last)));
    (items, next)
}

/// A place in a list of this kind, as clients carry it.
pub(super) fn cursor(kind: &str, place: &str) -> String {
    URL_SAFE_NO_PAD.encode(format!("{kind}\n{place}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(uri: &str) -> Result<Query, No> {
        Query::read(&uri.parse().unwrap(), &["limit", "cursor", "q"])
    }

    #[test]
    fn only_what_is_known_and_each_once() {
        let query = read("/x?limit=7&q=a%20b+c&cursor=").unwrap();
        assert_eq!((query.limit().unwrap(), query.text("q")), (7, Some("a b c")));
        assert_eq!(query.place::<String>("x").unwrap(), None);
        for bad in ["/x?other=1", "/x?q=1&q=2", "/x?q=&q=2"] {
            assert!(read(bad).is_err(), "{bad}");
        }
        for bad in ["", "0", "201", "-1", "x"] {
            assert!(read(&format!("/x?limit={bad}")).unwrap().limit().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_cursor_is_good_for_its_own_list() {
        let there = cursor("tools", "a:\u{e9}\nb");
        let query = read(&format!("/x?cursor={there}")).unwrap();
        let place = |query: &Query, kind| query.place::<String>(kind);
        assert_eq!(place(&query, "tools").unwrap().as_deref(), Some("a:\u{e9}\nb"));
        assert!(place(&query, "tool").is_err() && place(&query, "events").is_err());
        assert!(place(&read("/x?cursor=!!").unwrap(), "tools").is_err());
        assert!(query.place::<u64>("tools").is_err());
        let numbered = read(&format!("/x?cursor={}", cursor("runs", "7"))).unwrap();
        assert_eq!(numbered.place::<u64>("runs").unwrap(), Some(7));
    }

    #[test]
    fn a_page_says_where_the_next_begins_if_there_is_one() {
        let page = |limit| cut(vec![1, 2, 3], limit, "x", ToString::to_string);
        assert_eq!(page(3), (vec![1, 2, 3], None));
        assert_eq!(page(2), (vec![1, 2], Some(cursor("x", "2"))));
    }
}
