//! The scanner as a whole.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::engine::MAX_FINDINGS;
use super::eval::{Evaluation, evaluate};
use super::tokens::TOKENS;
use super::*;

fn labelled() -> Evaluation {
    let all =
        [include_str!("../../tests/data/dlp/positive.jsonl"), include_str!("../../tests/data/dlp/negative.jsonl")];
    evaluate(&Scanner::default(), &all.concat()).unwrap()
}

fn found(text: &str) -> Vec<&'static str> {
    Scanner::default().scan(text.as_bytes()).findings.iter().map(|finding| finding.rule).collect()
}

/// A GitHub token with its checksum, put together here so that no file holds one.
fn token(seed: u64) -> String {
    let digits: Vec<u8> = (b'0'..=b'9').chain(b'A'..=b'Z').chain(b'a'..=b'z').collect();
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let body: Vec<u8> = (0..30)
        .map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            digits[(state >> 33) as usize % digits.len()]
        })
        .collect();
    format!("gh{}_{}{}", "p", String::from_utf8_lossy(&body), String::from_utf8_lossy(&text::checksum(&body)))
}

#[test]
fn the_labelled_set_is_judged_right() {
    let evaluation = labelled();
    let faults = evaluation.faults.join("\n");
    println!("{:?} of {} lines\n{faults}", evaluation.all, evaluation.lines);
    assert!(evaluation.lines >= 600 && evaluation.clean_lines * 100 >= evaluation.lines * 45, "{}", evaluation.lines);
    assert!(evaluation.all.precision() >= 0.98, "{faults}");
    assert!(evaluation.all.recall() >= 0.95, "{faults}");
    assert_eq!(evaluation.leaks, 0);
    let named: Vec<&str> = RULES.iter().map(|rule| rule.id).filter(|id| !evaluation.rules.contains_key(*id)).collect();
    assert!(named.is_empty(), "the set has nothing for {named:?}");
}

/// What is written here, in every text file of the repository, is neither secret nor anybody's. Tests make things up,
/// and so does the demo database.
#[test]
fn the_repository_itself_is_clean() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut waiting: Vec<_> = ["src", "tests", "docs", "examples", "policies", "benches", "migrations", ".ci"]
        .iter()
        .map(|name| root.join(name))
        .collect();
    waiting.extend(
        ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "Cargo.toml", "Cargo.lock", "deny.toml"]
            .iter()
            .map(|name| root.join(name)),
    );
    let (mut faults, mut files) = (Vec::new(), 0);
    while let Some(path) = waiting.pop() {
        if path.is_dir() {
            let inside = std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap());
            // What a run of the suites puts beside them is no part of the repository.
            let ours = inside.filter(|entry| {
                let name = entry.file_name().to_string_lossy().into_owned();
                !name.starts_with('.') && !["node_modules", "tools"].contains(&name.as_str())
            });
            waiting.extend(ours.map(|entry| entry.path()));
            continue;
        }
        let name = path.display().to_string();
        let made_up =
            ["tests/", "tests.rs", "demo/database.rs", "brain/demo.jsonl"].iter().any(|part| name.contains(part));
        let Ok(text) = std::fs::read_to_string(&path) else { continue };
        let text = text.split("\n#[cfg(test)]\nmod tests {").next().unwrap_or_default().to_owned();
        files += 1;
        let fit = |finding: &&Finding| !(made_up && (finding.kind == Kind::Personal || finding.rule == "password"));
        for finding in Scanner::default().scan(text.as_bytes()).findings.iter().filter(fit) {
            let line = text[..finding.range.start].matches('\n').count() + 1;
            faults.push(format!("{}:{line}: {}", path.display(), finding.rule));
        }
    }
    assert!(files > 100, "{files}: where are the files?");
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn every_form_of_key_has_its_rule() {
    for token in TOKENS {
        let known = Scanner::default();
        assert!(known.disabled.is_empty());
        let text = format!("{}x", token.prefix);
        assert!(found(&text).is_empty(), "{text}: a prefix alone is no key");
    }
    let mut ids: Vec<&str> = RULES.iter().map(|rule| rule.id).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), RULES.len());
}

#[test]
fn a_key_is_found_through_every_encoding() {
    let key = token(7);
    let escaped: String = key.bytes().map(|byte| format!("\\u{byte:04x}")).collect();
    let json_in_json = json!({"text": json!({"a": format!("x\n{key}\n")}).to_string()}).to_string();
    let thrice = json!({"text": json_in_json}).to_string();
    let base64 = STANDARD.encode(format!("GITHUB_TOKEN={key}\n"));
    for text in [
        format!("\"{key}\""),
        format!(r#"{{"a":"\n{key}\t"}}"#),
        format!(r#"{{"a":"{escaped}"}}"#),
        json_in_json,
        thrice,
        format!(r#"{{"blob":"{base64}"}}"#),
        format!(r#"{{"url":"https://h/?t={}"}}"#, key.replace('_', "%5F").replace("ghp", "gh%70")),
    ] {
        let report = Scanner::default().scan(text.as_bytes());
        assert_eq!(report.findings.iter().map(|finding| finding.rule).collect::<Vec<_>>(), ["github-token"], "{text}");
        let plain = redact(&text, &report.findings).unwrap();
        assert!(plain.contains("[redacted:github-token]"), "{plain}");
        let _: Value = serde_json::from_str(&plain).unwrap();
        assert!(found(&plain).is_empty(), "{plain}");
    }
}

/// A text in every form that is opened.
fn disguises(text: &str) -> Vec<String> {
    let (first, rest) = (text.as_bytes()[0], &text[1..]);
    vec![
        format!("\\u{first:04x}{rest}"),
        text.bytes().map(|byte| format!("\\u{byte:04x}")).collect(),
        format!("%{first:02x}{rest}"),
        text.bytes().map(|byte| format!("%{byte:02x}")).collect(),
        STANDARD.encode(format!("see {text}")),
        STANDARD.encode(format!("{{\"a\":\"\\u{first:04x}{rest}\",\"b\":\"ghp_\"}}")),
        STANDARD.encode(format!("AKIA {}", STANDARD.encode(text))),
        STANDARD.encode(format!("??>{text}")).replace('/', "\\/"),
    ]
}

/// What is opened at one place counts for no other, be it before or behind, near or far.
#[test]
fn a_decoy_hides_nothing() {
    let key = token(9);
    let mut decoys = disguises("ghp_");
    decoys.extend(["AKIA in docs", "sk_live_ and so on", "-----BEGIN", &token(4)].map(|word| STANDARD.encode(word)));
    decoys.extend(["\\u0041bc", "%41bc", "ghp_", "gh", "\\\\"].map(str::to_owned));
    for (form, hidden) in disguises(&key).iter().enumerate() {
        for decoy in &decoys {
            for gap in [1, 600, 40_000] {
                let gap = " ".repeat(gap);
                for text in [format!("{decoy}{gap}{hidden}"), format!("{hidden}{gap}{decoy}")] {
                    let text = format!("{{\"a\":\"{text}\"}}");
                    let place = text.find(&**hidden).unwrap();
                    let report = Scanner::default().scan(text.as_bytes());
                    let caught = |found: &Finding| found.range.start < place + hidden.len() && place < found.range.end;
                    assert!(
                        report.findings.iter().any(caught),
                        "form {form} with {decoy}: {}",
                        &text[..200.min(text.len())]
                    );
                    let plain = redact(&text, &report.findings).unwrap();
                    let _: Value = serde_json::from_str(&plain).unwrap();
                }
            }
        }
    }
}

/// Nor does where it stands in base64, or what stands beside it there.
#[test]
fn a_key_is_found_anywhere_in_base64() {
    let key = token(8);
    let forms = [key, format!("AKI{}", "AQYLPMN5HHHFPZAM2"), format!("sk_live{}", "_4eC39HqLyjWDarjtT1zdp7dcQx")];
    let fronts: [&[u8]; 4] = [b"", b"caf\xe9 ", b"\0\0", b"\x89PNG\r\n\x1a\n\0\0"];
    for (number, form) in forms.iter().enumerate() {
        for (step, front) in (0..70_000).step_by(2_991).zip(fronts.iter().cycle()) {
            let behind = b"z ".repeat(step / 2 + number);
            for inside in [
                [front, &*behind, form.as_bytes()].concat(),
                [&*behind, front, form.as_bytes(), b" ", front, &*behind].concat(),
            ] {
                let coded = STANDARD.encode(inside);
                assert_eq!(
                    found(&format!("{{\"blob\":\"{coded}\"}}")).len(),
                    1,
                    "{form} behind {step} bytes and {front:?}"
                );
                assert_eq!(found(&format!("{{\"blob\":\"x-{coded}+_\"}}")).len(), 1, "{form} beside other characters");
            }
        }
    }
}

/// Base64 stands in lines where MIME, `base64` and file APIs write it: a line ends anywhere in a secret, or in its keyword.
#[test]
fn lines_of_base64_are_one() {
    let body: Vec<String> = (0..16).map(|seed| format!("{}{}", &token(seed)[4..], &token(seed + 99)[10..34])).collect();
    let kind = "EC PRIVATE KEY";
    let pem = format!("-----BEGIN {kind}-----\n{}\n-----END {kind}-----", body.join("\n"));
    for (secret, rule) in
        [(token(8), "github-token"), (format!("AKI{}", "AQYLPMN5HHHFPZAM2"), "aws-access-key"), (pem, "private-key")]
    {
        for front in 0..60 {
            let coded = STANDARD.encode(format!("{}\n{secret}\nand no more\n", "z".repeat(front)));
            for (columns, end) in [(60, "\n"), (64, "\n"), (64, "\r\n"), (76, "\r\n")] {
                let lines: Vec<&str> =
                    coded.as_bytes().chunks(columns).map(|line| std::str::from_utf8(line).unwrap()).collect();
                let text = format!("{}{end}", lines.join(end));
                let json = json!({"content": text}).to_string();
                for (number, text) in [json!({"text": json}).to_string(), json, text].iter().enumerate() {
                    let report = Scanner::default().scan(text.as_bytes());
                    let rules: Vec<_> = report.findings.iter().map(|finding| finding.rule).collect();
                    assert_eq!(rules, [rule], "{front} {columns} {end:?} {number}");
                    let left = match number {
                        2 => redact_plain(text, &report.findings),
                        _ => redact(text, &report.findings).unwrap(),
                    };
                    assert!(left.len() < 80, "{front} {columns} {end:?}: {left}");
                }
            }
        }
    }
    // Lines that are none of base64, and a key whose name alone stands there.
    for text in ["one\ntwo\nthree", "C:\\new\\name\\readme", &STANDARD.encode("ghp_ ".repeat(90)).replace("Z2", "\nZ2")]
    {
        assert!(found(&json!({"a": text}).to_string()).is_empty(), "{text}");
    }
}

/// What is encoded in part or as a whole is taken out as a whole, however long it is.
#[test]
fn nothing_of_a_long_secret_stays() {
    let coded = |text: &str| -> String {
        text.bytes()
            .map(|byte| {
                if byte.is_ascii_alphanumeric() || b"-_.".contains(&byte) {
                    char::from(byte).to_string()
                } else {
                    format!("%{byte:02X}")
                }
            })
            .collect()
    };
    for lines in [8, 50, 110, 234] {
        let body: Vec<String> =
            (0..lines).map(|seed| format!("{}{}", &token(seed)[4..], &token(seed + 99)[10..34])).collect();
        let kind = "EC PRIVATE KEY";
        let pem = format!("-----BEGIN {kind}-----\n{}\n-----END {kind}-----", body.join("\n"));
        let jwt = format!("{}.{}.{}", "eyJhbGciOiJIUzI1NiJ9", &body.concat()[..body.len() * 30], &token(5)[4..]);
        for (is_jwt, secret) in [(false, &pem), (true, &jwt)] {
            let mut forms = disguises(secret);
            forms.extend([
                secret.clone(),
                coded(secret),
                format!("\\u{:04x}{}", secret.as_bytes()[0], coded(&secret[1..])),
            ]);
            // Base64 is opened where something famous stands in it, which a JWT is not.
            for (form, hidden) in forms.iter().enumerate().filter(|(form, _)| !is_jwt || ![4, 6, 7].contains(form)) {
                let written = json!({ "a": format!("see {hidden} and more") }).to_string();
                let text = if form < 8 {
                    format!("{{\"a\":\"see {} and more\"}}", hidden.replace('\n', "\\n"))
                } else {
                    written.replace("\\\\", "\\")
                };
                let report = Scanner::default().scan(text.as_bytes());
                let plain = redact(&text, &report.findings).unwrap();
                assert!(plain.len() < 200, "form {form} of {lines} lines: {} stay of {}", plain.len(), text.len());
            }
        }
    }
    for text in ["Authorization%3A%20Bearer%20", "api_key%3D", "x=1&client_secret%3D"] {
        assert_eq!(found(&format!("{{\"a\":\"{text}{}\"}}", "Zk2Qw9LmX4cV1bN8sRt5yUp3")).len(), 1, "{text}");
    }
}

/// A space is `%20` in URLs and `+` in forms.
#[test]
fn spaces_are_spaces_however_a_url_writes_them() {
    let body = "Zk2Qw9LmX4cV1bN8sRt5yUp3";
    let key = "MIIEpAIBAAKCAQEA7Zk2Qw9LmX4cV1bN8sRt5yUp3eHa6gJd0fTiKoPzCvBnM2q";
    let pem = format!("-----BEGIN RSA PRIVATE KEY-----\n{key}\n{key}\n-----END RSA PRIVATE KEY-----");
    for plain in [
        "card=4111 1111 1111 1111",
        "iban=DE89 3704 0044 0532 0130 00",
        &format!("Authorization: Bearer {body}"),
        &format!("client_secret = {body}"),
        &pem,
    ] {
        let rules = found(plain);
        assert_eq!(rules.len(), 1, "{plain}");
        let encode = |c: char| match c {
            c if c.is_ascii_alphanumeric() || "-_.".contains(c) => c.to_string(),
            c => format!("%{:02X}", u32::from(c)),
        };
        let url: String = plain.chars().map(encode).collect();
        let (form, mixed) = (url.replace("%20", "+"), url.replace("RSA%20PRIVATE%20", "RSA+PRIVATE+"));
        for text in [url, form, mixed] {
            for text in [text.clone(), format!("GET /?q=a+b&x={text}&y=1+1")] {
                let text = json!({ "a": text }).to_string();
                let report = Scanner::default().scan(text.as_bytes());
                let rules_here: Vec<_> = report.findings.iter().map(|finding| finding.rule).collect();
                assert_eq!(rules_here, rules, "{text}");
                let left = redact(&text, &report.findings).unwrap();
                assert!(!left.contains("1111") && !left.contains("3704") && !left.contains(&key[8..24]), "{left}");
                assert!(!left.contains(&body[4..]), "{left}");
            }
        }
    }
    for text in ["1234+5678 = 6912", "page%201%202", "2024+2025+2026+2027", "a+b+c"] {
        assert!(found(text).is_empty(), "{text}");
    }
}

#[test]
fn a_brief_scan_says_the_same_or_nothing() {
    let scanner = Scanner::default();
    for text in [format!("{{\"a\":\"{}\"}}", token(1)), "plain".into(), "a@bc.io, ".repeat(40)] {
        assert_eq!(scanner.scan_briefly(text.as_bytes()), Some(scanner.scan(text.as_bytes())));
    }
    for text in ["-----BEGIN RSA PRIVATE KEY-----Ab1+".repeat(300), "%41".repeat(20_000), " ".repeat(100_000)] {
        assert_eq!(scanner.scan_briefly(text.as_bytes()), None);
    }
}

#[test]
fn checksums_make_findings_certain() {
    let key = token(3);
    let wrong = format!("{}{}", &key[..39], if key.ends_with('a') { 'b' } else { 'a' });
    let confidence = |text: &str| Scanner::default().scan(text.as_bytes()).findings[0].confidence;
    assert_eq!(confidence(&key), Confidence::Certain);
    assert_eq!(confidence(&wrong), Confidence::Likely);
    let body = "7Zk2Qw9LmX4cV1bN8sRt5yUp3eHa6gJd0fTiKoPzCvBnM2q";
    let own =
        |body: &str| format!("inv_{}_{body}{}", "live", String::from_utf8_lossy(&text::checksum(body.as_bytes())));
    assert_eq!(found(&own(&body[..43])), ["toolgate-key"]);
    assert!(found(&own(&body[..43]).replace("7Zk", "7Zl")).is_empty(), "a key of our own without its checksum is none");
}

#[test]
fn nothing_of_a_finding_is_shown() {
    let key = token(11);
    let report = Scanner::default().scan(format!("{{\"a\":\"{key}\"}}").as_bytes());
    assert!(!format!("{report:?}").contains(&key[8..20]));
}

#[test]
fn names_and_numbers_cannot_be_rewritten() {
    for text in [format!(r#"{{"{}": 1}}"#, token(1)), r#"{"card": 4111111111111111}"#.to_owned()] {
        let report = Scanner::default().scan(text.as_bytes());
        assert_eq!(report.findings.len(), 1, "{text}");
        assert!(redact(&text, &report.findings).is_err(), "{text}");
    }
}

#[test]
fn overlapping_findings_are_one() {
    let key = token(5);
    assert_eq!(
        found(&format!("{{\"api_key\": \"{key}\", \"header\": \"Bearer {key}\"}}")),
        ["github-token", "github-token"]
    );
}

#[test]
fn a_scan_has_an_end() {
    let dense = [
        "secret=".repeat(50_000),
        format!("{{\"a\":\"{}\"}}", "\\\"token\\\":".repeat(30_000)),
        "-----BEGIN EC PRIVATE KEY-----".repeat(10_000),
        "\\u0041".repeat(50_000),
        "%41".repeat(100_000),
        "a@b.co ".repeat(50_000),
        "eyJh.".repeat(15_000),
        "4111 1111 1111 1112 ".repeat(15_000),
        "\\".repeat(250_000) + "secret",
        "Z2hwX".repeat(50_000),
        format!("{}\n", "Z2hwX".repeat(12)).repeat(4_000),
        format!("{}\\n", "Z2hwX".repeat(12)).repeat(4_000),
        "(".repeat(1 << 18),
    ];
    for text in dense {
        // Ends, whatever it says; debug builds are slow, so time is no measure here, the bound on work is.
        let report = Scanner::default().scan(text.as_bytes());
        assert!(report.findings.len() <= MAX_FINDINGS);
    }
    assert!(Scanner::default().scan("a@bc.io ".repeat(2000).as_bytes()).incomplete, "more findings than are told");
    assert!(Scanner::default().scan(&vec![b' '; MAX_BYTES + 1]).incomplete, "more bytes than are scanned");
}

/// JSON in which a token stands somewhere in a string.
fn planted() -> impl Strategy<Value = (Value, String)> {
    let text = prop_oneof![".{0,40}", "[a-z \\\\\"\n/%:={}@.-]{0,40}", Just(String::new())];
    let leaf =
        prop_oneof![Just(json!(null)), any::<i64>().prop_map(|n| json!(n)), text.clone().prop_map(Value::String)];
    let tree = leaf.prop_recursive(3, 24, 5, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::Array),
            proptest::collection::hash_map("[a-z]{1,6}", inner, 0..5)
                .prop_map(|m| Value::Object(m.into_iter().collect())),
        ]
    });
    let gap = prop_oneof!["[ \n\t,;:(\"'<\\[{]", Just(String::new())];
    (tree.clone(), tree, text.clone(), gap.clone(), text, gap, any::<u64>(), 0..3u8).prop_map(
        |(before, after, left, first, right, last, seed, depth)| {
            let key = token(seed);
            let (first, last) = (
                if left.is_empty() { first } else { format!(" {first}") },
                if right.is_empty() { last } else { format!("{last} ") },
            );
            let mut value = json!({"a": before, "b": [format!("{left}{first}{key}{last}{right}")], "c": after});
            for _ in 0..depth {
                value = json!({"content": [{"type": "text", "text": value.to_string()}]});
            }
            (value, key)
        },
    )
}

proptest! {
    #[test]
    fn a_planted_secret_goes_and_the_rest_stays_json((value, key) in planted()) {
        let text = value.to_string();
        let report = Scanner::default().scan(text.as_bytes());
        prop_assert!(report.findings.iter().any(|finding| finding.rule == "github-token"), "{}", text);
        if let Ok(plain) = redact(&text, &report.findings) {
            let read: Value = serde_json::from_str(&plain).unwrap();
            prop_assert!(!plain.contains(&key));
            prop_assert_eq!(shape(&read), shape(&value));
        }
    }

    #[test]
    fn what_follows_hides_nothing(parts in proptest::collection::vec((0usize..8, 0u64..9, 1usize..3000), 1..5), more in "[^\"\\\\]{0,40}") {
        let mut text = String::from("{\"a\":\"");
        let mut places = Vec::new();
        for (form, seed, gap) in parts {
            let hidden = &disguises(&token(seed))[form];
            places.push(text.len()..text.len() + hidden.len());
            text.push_str(hidden);
            text.push_str(&" ".repeat(gap));
        }
        let before = Scanner::default().scan(text.as_bytes()).findings;
        let after = Scanner::default().scan(format!("{text}{more}").as_bytes()).findings;
        for place in places {
            let caught = |found: &Finding| found.range.start < place.end && place.start < found.range.end;
            prop_assert!(before.iter().any(caught) && after.iter().any(caught), "{:?} of {}", place, text);
        }
    }

    #[test]
    fn what_is_clean_is_left_alone(text in ".{0,200}") {
        let text = json!({"text": text}).to_string();
        let report = Scanner::default().scan(text.as_bytes());
        if report.findings.is_empty() {
            prop_assert_eq!(redact(&text, &report.findings).unwrap(), text);
        }
    }

    #[test]
    fn any_bytes_end_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let report = Scanner::default().scan(&bytes);
        prop_assert!(report.findings.iter().all(|finding| finding.range.end <= bytes.len()));
    }

    #[test]
    fn hostile_text_ends_without_panic(parts in proptest::collection::vec(
        prop_oneof!["password", "token", "\\\\u00", "\\\\", "\"", "[:=]", "eyJh", "@", "%4", "4111 1111", "DE89", "-----BEGIN ", "PRIVATE KEY-----",
            "ghp_", "sk-ant-", "Z2hwX", "[0-9a-zA-Z]{1,40}", "é", "://"], 0..60)) {
        let text = parts.concat();
        let report = Scanner::default().scan(text.as_bytes());
        prop_assert!(report.findings.iter().all(|finding| text.get(finding.range.clone()).is_some()), "{}", text);
    }
}

/// A tree with its strings left out.
fn shape(value: &Value) -> Value {
    match value {
        Value::String(_) => json!(""),
        Value::Array(items) => items.iter().map(shape).collect(),
        Value::Object(members) => members.iter().map(|(name, value)| (name.clone(), shape(value))).collect(),
        other => other.clone(),
    }
}
