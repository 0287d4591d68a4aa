//! An approval as a page for people: no script, nothing from elsewhere, every text escaped. It shows nothing to whoever has
//! brought no key, and never holds one.

use std::fmt::Write;

use axum::response::{IntoResponse, Response};
use http::{StatusCode, header};
use serde_json::Value;

use super::markup::escaped;

const STYLE: &str = include_str!("approval_page.css");
/// What a browser may do with the page: show it, and send its forms back here.
const CONTENT: &str =
    "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

/// Deeper values stand no further to the right: the page grows with what it shows, and not with its depth.
const MAX_INDENT: usize = 16;

/// What the page shows.
#[derive(Debug, Clone, Copy)]
pub(super) enum Shown<'a> {
    /// Nothing but the form that asks for a key, and what was wrong.
    Door(Option<&'a str>),
    /// The approval; a sentence about what was just done; whether this viewer may decide now.
    Approval { view: &'a Value, said: Option<&'a str>, decides: bool },
}

/// The page under the path of one approval, which was checked to be one.
pub(super) fn page(status: StatusCode, id: &str, shown: Shown<'_>) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, CONTENT),
        (header::CACHE_CONTROL, "no-store"),
        (header::REFERRER_POLICY, "same-origin"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (status, headers, render(id, shown)).into_response()
}

fn render(id: &str, shown: Shown<'_>) -> String {
    let id = escaped(id);
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>Approval – Toolgate</title>\
         <style>{STYLE}</style></head><body><h1>Approval <small>{id}</small></h1>"
    );
    match shown {
        Shown::Door(said) => {
            say(&mut out, said);
            out.push_str("<p>A call waits for a person. Your key shows it to you; it is not kept.</p>");
            form(&mut out, &id, "", "Show it", "", false);
        }
        Shown::Approval { view, said, decides } => {
            say(&mut out, said);
            approval(&mut out, view);
            if decides {
                form(&mut out, &id, "/approve", "Approve this call, once", "approve", true);
                form(&mut out, &id, "/deny", "Refuse this call", "deny", true);
            } else {
                form(&mut out, &id, "", "Look again", "", false);
            }
        }
    }
    out.push_str("</body></html>\n");
    out
}

fn say(out: &mut String, said: Option<&str>) {
    if let Some(said) = said {
        put(out, format_args!("<p role=\"status\"><strong>{}</strong></p>", escaped(said)));
    }
}

fn form(out: &mut String, id: &str, act: &str, label: &str, class: &str, comment: bool) {
    put(out, format_args!("<form method=\"post\" action=\"/v1/approvals/{id}{act}\" class=\"{class}\">"));
    if comment {
        out.push_str("<label>Comment <input name=\"comment\" maxlength=\"1000\" autocomplete=\"off\"></label> ");
    }
    out.push_str("<label>Your key <input name=\"key\" type=\"password\" required autocomplete=\"off\"></label> ");
    put(out, format_args!("<button>{label}</button></form>"));
}

fn approval(out: &mut String, view: &Value) {
    let text = |name: &str| view.get(name).and_then(Value::as_str).unwrap_or_default();
    put(
        out,
        format_args!("<p>It is <strong>{}</strong>: {}.</p><table>", escaped(text("state")), escaped(text("next"))),
    );
    for (name, label) in [
        ("tool", "Tool"),
        ("agent", "Agent"),
        ("user", "User"),
        ("subject", "JWT of"),
        ("issuer", "JWT by"),
        ("key_name", "Key"),
        ("reason", "Reason"),
        ("policy", "Policy"),
        ("effects", "Would do"),
        ("approvers", "Who may approve"),
        ("created_at", "Asked"),
        ("expires_at", "Until"),
        ("decided_at", "Decided"),
        ("decided_by", "By"),
        ("comment", "Comment"),
        ("outcome", "Outcome"),
        ("earlier", "Earlier, end unknown"),
        ("tool_digest", "Definition"),
        ("arguments_digest", "Arguments"),
        ("beside_digest", "Beside them"),
        ("meta_digest", "Beside them, _meta"),
    ] {
        let value = match view.get(name) {
            None | Some(Value::Null) => continue,
            Some(Value::Array(items)) if items.is_empty() => continue,
            Some(Value::String(text)) => text.clone(),
            Some(Value::Array(items)) => items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", "),
            Some(Value::Object(by)) => by.get("user").and_then(Value::as_str).unwrap_or_default().to_owned(),
            Some(other) => other.to_string(),
        };
        put(out, format_args!("<tr><th>{label}</th><td>{}</td></tr>", escaped(&value)));
    }
    out.push_str("</table>");
    let exact = |name: &str| view.get("exact").and_then(|exact| exact.get(name)).and_then(Value::as_str);
    if view.get("exact").is_none() {
        if let Some(preview) = view.get("preview").filter(|preview| !preview.is_null()) {
            block(out, "Arguments, without their texts", &serde_json::to_string_pretty(preview).unwrap_or_default());
        }
        return;
    }
    match exact("arguments") {
        Some(text) => block(out, "Arguments", &indented(text)),
        None => {
            out.push_str("<p role=\"alert\">Its arguments cannot be shown: do not approve what you cannot see.</p>")
        }
    }
    if let Some(text) = exact("beside") {
        block(out, "Sent beside the arguments", &indented(text));
    }
}

fn block(out: &mut String, label: &str, text: &str) {
    put(out, format_args!("<h2>{label}</h2><pre>{}</pre>", escaped(text)));
}

/// JSON without white space, a member on each line; what is written stays as it is written.
fn indented(text: &str) -> String {
    let mut out = String::with_capacity(text.len() * 2);
    let (mut depth, mut quoted, mut escape) = (0_usize, false, false);
    let line = |out: &mut String, depth: usize| {
        out.push('\n');
        out.extend(std::iter::repeat_n("  ", depth.min(MAX_INDENT)));
    };
    let mut last = '\0';
    for c in text.chars() {
        if quoted {
            quoted = escape || c != '"';
            escape = !escape && c == '\\';
            out.push(c);
            last = c;
            continue;
        }
        let empty = matches!(last, '{' | '[');
        match c {
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                if !empty {
                    line(&mut out, depth);
                }
            }
            _ if empty => line(&mut out, depth),
            _ => {}
        }
        out.push(c);
        match c {
            '"' => quoted = true,
            '{' | '[' => depth += 1,
            ',' => line(&mut out, depth),
            ':' => out.push(' '),
            _ => {}
        }
        last = c;
    }
    out
}

fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a string does not fail.
    let _always = out.write_fmt(text);
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nothing_of_a_caller_is_markup() {
        let evil = "</pre><script>alert(1)</script>\"'&\u{202e}\u{0}\u{e0041}\u{3164}";
        let view = json!({
            "state": "pending", "next": evil, "tool": evil, "agent": evil, "user": evil, "comment": evil,
            "subject": evil, "issuer": evil,
            "effects": [evil], "decided_by": {"user": evil}, "exact": {"arguments": json!({evil: evil}).to_string(), "beside": json!({evil: [evil]}).to_string()},
        });
        let page = render(evil, Shown::Approval { view: &view, said: Some(evil), decides: true });
        assert!(!page.contains("<script") && !page.contains(['\u{202e}', '\u{0}', '\u{e0041}', '\u{3164}']), "{page}");
        assert!(page.contains("&lt;script&gt;") && page.contains("\\u{202e}"));
        assert_eq!(page.matches("<pre>").count(), page.matches("</pre>").count());
    }

    #[test]
    fn what_is_approved_is_shown_as_it_is_written() {
        let text = r#"{"a":[],"b":[1E+2,{"c":"x\\\"{,:","d":{}}],"n":12345678901234567890123456}"#;
        insta::assert_snapshot!(indented(text), @r#"
        {
          "a": [],
          "b": [
            1E+2,
            {
              "c": "x\\\"{,:",
              "d": {}
            }
          ],
          "n": 12345678901234567890123456
        }
        "#);
        let view = json!({"exact": {"arguments": text, "beside": r#"{"mode":0.10}"#}});
        let page = render("apr_1", Shown::Approval { view: &view, said: None, decides: true });
        assert!(page.contains("12345678901234567890123456") && page.contains("0.10"), "{page}");
        assert!(page.contains("Sent beside the arguments"), "{page}");
        let unseen = json!({"exact": {"arguments": null, "beside": null}, "preview": {"n": 1}});
        let page = render("apr_1", Shown::Approval { view: &unseen, said: None, decides: true });
        assert!(page.contains("do not approve what you cannot see"), "{page}");
    }

    #[test]
    fn a_door_shows_nothing_and_no_page_holds_a_key() {
        let door = render("apr_1", Shown::Door(None));
        assert_eq!((door.matches("<form").count(), door.matches("type=\"password\"").count()), (1, 1));
        assert!(!door.contains("<table"));
        let view = json!({"state": "used", "next": "x", "preview": {"n": 1}});
        let over = render("apr_1", Shown::Approval { view: &view, said: None, decides: false });
        assert!(!over.contains("/approve") && over.contains("without their texts"), "{over}");
        assert!(!over.contains("value="));
    }
}
