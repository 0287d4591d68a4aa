//! The document as one page of HTML: no script, nothing from elsewhere.

use std::fmt::Write;

use serde_json::{Map, Value};

const STYLE: &str = include_str!("page.css");
const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];

/// The whole page.
pub(super) fn render(document: &Value) -> String {
    let text = |pointer: &str| document.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let (title, version) = (escaped(text("/info/title")), escaped(text("/info/version")));
    let mut out = format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\"><title>{title} {version}</title>\
         <style>{STYLE}</style></head><body><header><h1>{title} <small>{version}</small></h1>{}\
         <p>For programs: <a href=\"/openapi.json\">openapi.json</a>. For agents: <a href=\"/llms.txt\">llms.txt</a>. \
         A key goes into <code>X-API-Key: KEY</code> or <code>Authorization: Bearer KEY</code>.</p></header>",
        prose(text("/info/description"))
    );
    for tag in document.get("tags").and_then(Value::as_array).into_iter().flatten() {
        let name = tag.get("name").and_then(Value::as_str).unwrap_or_default();
        put(&mut out, format_args!("<section><h2>{}</h2>", escaped(name)));
        out.push_str(&prose(tag.get("description").and_then(Value::as_str).unwrap_or_default()));
        for (path, method, operation) in operations(document, name) {
            show(&mut out, path, method, operation);
        }
        out.push_str("</section>");
    }
    out.push_str("<section><h2>Shapes</h2>");
    for (name, schema) in members(document.pointer("/components/schemas")) {
        let name = escaped(name);
        put(&mut out, format_args!("<details id=\"{name}\"><summary><code>{name}</code></summary>"));
        out.push_str(&prose(schema.get("description").and_then(Value::as_str).unwrap_or_default()));
        put(&mut out, format_args!("{}</details>", code(schema)));
    }
    out.push_str("</section></body></html>\n");
    out
}

fn members(value: Option<&Value>) -> impl Iterator<Item = (&String, &Value)> {
    value.and_then(Value::as_object).into_iter().flat_map(Map::iter)
}

fn operations<'a>(document: &'a Value, tag: &'a str) -> impl Iterator<Item = (&'a str, &'a str, &'a Value)> {
    members(document.get("paths")).flat_map(move |(path, methods)| {
        METHODS.into_iter().filter_map(move |method| {
            let operation = methods.get(method)?;
            let tags = operation.get("tags").and_then(Value::as_array)?;
            tags.iter().any(|other| other == tag).then_some((path.as_str(), method, operation))
        })
    })
}

fn show(out: &mut String, path: &str, method: &str, operation: &Value) {
    let text = |name: &str| operation.get(name).and_then(Value::as_str).unwrap_or_default();
    let (id, summary) = (escaped(text("operationId")), escaped(text("summary")));
    let verb = method.to_ascii_uppercase();
    put(
        out,
        format_args!(
            "<details id=\"{id}\"><summary><b class=\"{method}\">{verb}</b> <code>{}</code> {summary}</summary>{}",
            escaped(path),
            prose(text("description"))
        ),
    );
    let parameters = operation.get("parameters").and_then(Value::as_array);
    if let Some(parameters) = parameters.filter(|all| !all.is_empty()) {
        out.push_str("<table><tr><th>parameter</th><th>in</th><th></th></tr>");
        for parameter in parameters {
            let text = |name: &str| escaped(parameter.get(name).and_then(Value::as_str).unwrap_or_default());
            let (name, place, about) = (text("name"), text("in"), text("description"));
            put(out, format_args!("<tr><td><code>{name}</code></td><td>{place}</td><td>{about}</td></tr>"));
        }
        out.push_str("</table>");
    }
    for (_, media) in members(operation.pointer("/requestBody/content")) {
        put(out, format_args!("<h4>Body {}</h4>", shape(media)));
        out.push_str(&media.get("example").map(code).unwrap_or_default());
    }
    out.push_str("<table><tr><th>status</th><th>means</th><th>body</th></tr>");
    for (status, answer) in members(operation.get("responses")) {
        let about = escaped(answer.get("description").and_then(Value::as_str).unwrap_or_default());
        let bodies: Vec<String> = members(answer.get("content")).map(|(_, media)| shape(media)).collect();
        put(out, format_args!("<tr><td>{}</td><td>{about}</td><td>{}</td></tr>", escaped(status), bodies.join(" ")));
        for (_, media) in members(answer.get("content")) {
            if let Some(example) = media.get("example") {
                put(out, format_args!("<tr><td></td><td colspan=\"2\">{}</td></tr>", code(example)));
            }
        }
    }
    out.push_str("</table></details>");
}

/// A link to a shape.
fn shape(media: &Value) -> String {
    let reference = media.pointer("/schema/$ref").and_then(Value::as_str);
    let name = reference.and_then(|text| text.rsplit('/').next()).map(escaped);
    name.map_or_else(String::new, |name| format!("<a href=\"#{name}\"><code>{name}</code></a>"))
}

fn code(value: &Value) -> String {
    format!("<pre>{}</pre>", escaped(&serde_json::to_string_pretty(value).unwrap_or_default()))
}

/// Paragraphs, with `code` in backticks.
fn prose(text: &str) -> String {
    let paragraph = |text: &str| {
        let mut out = String::from("<p>");
        for (at, part) in escaped(text).split('`').enumerate() {
            if at > 0 {
                out.push_str(if at % 2 == 1 { "<code>" } else { "</code>" });
            }
            out.push_str(part);
        }
        out + "</p>"
    };
    text.split("\n\n").filter(|text| !text.trim().is_empty()).map(paragraph).collect()
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            c => out.push(c),
        }
    }
    out
}

fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a string does not fail.
    let _written = out.write_fmt(text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_escaped() {
        insta::assert_snapshot!(prose("a `b<c>` & \"d\"\n\ne"), @"<p>a <code>b&lt;c&gt;</code> &amp; &quot;d&quot;</p><p>e</p>");
    }
}
