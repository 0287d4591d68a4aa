//! Which of the entities that match is meant: the better a single field is described by the query, the better.

use serde_json::{Map, Value};

use crate::store::brain::{texts, words};

const IS_THE_KEY: u32 = 4000;
const IS_A_FIELD: u32 = 3000;
const BEGINS_A_FIELD: u32 = 2000;
/// For the share of a field's words that the query has.
const SHARE: u32 = 1000;
/// Words of a field that are looked at.
const MOST_WORDS: usize = 200;

/// How well `wanted` describes an entity; `None` where it lacks a word, or all of them where `any` will do.
pub(super) fn score(wanted: &[String], any: bool, key: Option<&str>, body: &Map<String, Value>) -> Option<u32> {
    let (mut met, mut best) = (vec![false; wanted.len()], 0);
    let mut field = |text: &str, whole: u32| {
        let (mut place, mut hits, mut begins) = (0, 0, true);
        words(text, |word| {
            if let Some(at) = wanted.iter().position(|wanted| wanted == word) {
                hits += 1;
                if let Some(met) = met.get_mut(at) {
                    *met = true;
                }
            }
            if place < wanted.len() && wanted.get(place).is_none_or(|wanted| wanted != word) {
                begins = false;
            }
            place += 1;
        });
        if hits == 0 {
            return;
        }
        let share = SHARE * u32::try_from(hits.min(MOST_WORDS)).unwrap_or(0)
            / u32::try_from(place.clamp(1, MOST_WORDS)).unwrap_or(1);
        let whole = match (begins, place == wanted.len()) {
            (true, true) => whole,
            (true, false) if place > wanted.len() => BEGINS_A_FIELD,
            _ => 0,
        };
        best = best.max(whole + share.min(SHARE));
    };
    if let Some(key) = key {
        field(key, IS_THE_KEY);
    }
    for value in body.values() {
        texts(value, &mut |text| field(text, IS_A_FIELD));
    }
    let enough = if any { met.iter().any(|met| *met) } else { met.iter().all(|met| *met) };
    enough.then_some(best)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(query: &str, any: bool, key: &str, body: &Value) -> Option<u32> {
        score(&crate::store::brain::words_of(query), any, Some(key), body.as_object().unwrap())
    }

    #[test]
    fn a_whole_field_beats_a_beginning_beats_a_mention() {
        let score = |body: Value| of("acme", false, "c-1", &body).unwrap();
        let ranked = [
            score(json!({"name": "ACME", "note": "about something else, and acme"})),
            score(json!({"name": "Acme Corp"})),
            score(json!({"name": "Acme Corp of Somewhere"})),
            score(json!({"note": "was with acme"})),
            score(json!({"note": "was for a long time with acme"})),
        ];
        assert!(ranked.is_sorted_by(|one, other| one > other), "{ranked:?}");
        assert!(of("c-1", false, "c-1", &json!({})) > of("c-1", false, "c-2", &json!({"of": "c-1"})));
    }

    #[test]
    fn every_word_must_be_there_or_any() {
        let body = json!({"name": "Acme", "city": ["Berlin", {"x": 7}]});
        assert!(of("acme berlin 7", false, "k", &body).is_some());
        assert_eq!(of("acme paris", false, "k", &body), None);
        assert!(of("acme paris", true, "k", &body).is_some());
        assert_eq!(of("paris", true, "k", &body), None);
    }
}
