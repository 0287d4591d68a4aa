//! Headers that repeat a part of the body (MCP 2026-07-28, SEP-2243), derived from what is sent.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderName, HeaderValue};
use serde_json::{Map, Value};

use super::era::{Header, same_by};
use super::hop::member;
use super::rpc::RpcError;
use crate::domain::json::Json;

/// The member of a schema that asks for a header.
pub const ANNOTATION: &str = "x-mcp-header";

/// Longest argument that is repeated in a header, in bytes: servers refuse requests whose headers are much longer.
pub const MAX_VALUE: usize = 4 << 10;

/// Digits of a number that is written out.
const MAX_DIGITS: usize = 512;

/// One argument that a tool wants repeated in a header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mirror {
    header: HeaderName,
    /// Member names from the root of the arguments.
    path: Vec<String>,
}

/// What one header of a call says, before it is made fit for a header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    pub header: HeaderName,
    pub text: String,
    /// A number is compared as one.
    number: bool,
}

impl Said {
    /// Checks what was sent.
    ///
    /// # Errors
    /// -32020 where the header is missing, says something else, or cannot be read.
    pub fn check(&self, sent: Header<'_>) -> Result<(), RpcError> {
        let fits = |plain: &str| plain == self.text || (self.number && integer(plain).as_ref() == Some(&self.text));
        same_by(self.header.as_str(), sent, fits)
    }
}

/// A text as a header value: as it is where that is possible, else in base64 between `=?base64?` and `?=`.
#[must_use]
pub fn header_value(text: &str) -> HeaderValue {
    let encoded = text.starts_with("=?base64?") && text.ends_with("?=");
    let padded = text.starts_with(' ') || text.ends_with(' ');
    let visible = text.bytes().all(|b| (0x20..=0x7e).contains(&b));
    if visible
        && !padded
        && !encoded
        && let Ok(value) = HeaderValue::from_str(text)
    {
        return value;
    }
    HeaderValue::from_str(&format!("=?base64?{}?=", STANDARD.encode(text)))
        .unwrap_or_else(|_| HeaderValue::from_static(""))
}

/// The annotations of an input schema.
///
/// # Errors
/// Why they are invalid; such a tool must not be used over HTTP.
pub fn mirrors(schema: &Value) -> Result<Vec<Mirror>, String> {
    let Value::Object(root) = schema else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    if root.contains_key(ANNOTATION) {
        return Err(format!("`{ANNOTATION}` must stand on a property, not on the whole schema"));
    }
    walk(root, &mut Vec::new(), true, &mut found)?;
    Ok(found)
}

/// `on_chain`: the schema is reached from the root through `properties` alone.
fn walk(
    schema: &Map<String, Value>,
    path: &mut Vec<String>,
    on_chain: bool,
    found: &mut Vec<Mirror>,
) -> Result<(), String> {
    if let Some(header) = schema.get(ANNOTATION) {
        if !on_chain {
            return Err(format!("`{ANNOTATION}` must be reachable through `properties` alone"));
        }
        found.push(annotation(schema, header, path, found)?);
    }
    for (key, value) in schema {
        match (key.as_str(), value) {
            ("properties", Value::Object(properties)) => {
                for (name, property) in properties {
                    if let Value::Object(property) = property {
                        path.push(name.clone());
                        walk(property, path, on_chain, found)?;
                        path.pop();
                    }
                }
            }
            ("$defs" | "definitions" | "dependentSchemas" | "patternProperties", Value::Object(schemas)) => {
                for schema in schemas.values().filter_map(Value::as_object) {
                    walk(schema, path, false, found)?;
                }
            }
            // Data, not schemas.
            ("default" | "const" | "enum" | "examples", _) => {}
            (_, Value::Object(inner)) => walk(inner, path, false, found)?,
            (_, Value::Array(items)) => {
                for item in items.iter().filter_map(Value::as_object) {
                    walk(item, path, false, found)?;
                }
            }
            _ => {}
        }
    }
    Ok(())
}

fn annotation(
    schema: &Map<String, Value>,
    header: &Value,
    path: &[String],
    found: &[Mirror],
) -> Result<Mirror, String> {
    let place = path.join(".");
    let name = header.as_str().filter(|name| !name.is_empty() && name.len() <= 128);
    let parsed = name.and_then(|name| HeaderName::from_bytes(format!("mcp-param-{name}").as_bytes()).ok());
    let Some(parsed) = parsed else { return Err(format!("`{ANNOTATION}` of `{place}` is not a header name")) };
    if found.iter().any(|mirror| mirror.header == parsed) {
        return Err(format!("`{ANNOTATION}` of `{place}` is used twice"));
    }
    match schema.get("type").and_then(Value::as_str) {
        Some("string" | "integer" | "boolean") => Ok(Mirror { header: parsed, path: path.to_vec() }),
        _ => Err(format!("`{ANNOTATION}` of `{place}` needs the type string, integer or boolean")),
    }
}

/// The place (a JSON Pointer) of an argument that is too long to be repeated in a header, where there is one.
#[must_use]
pub fn too_long(mirrors: &[Mirror], arguments: &Value) -> Option<String> {
    let long = |mirror: &&Mirror| {
        let value = mirror.path.iter().try_fold(arguments, |value, name| value.get(name));
        value.and_then(Value::as_str).is_some_and(|text| text.len() > MAX_VALUE)
    };
    let path = &mirrors.iter().find(long)?.path;
    Some(path.iter().fold(String::new(), |place, name| place + "/" + &name.replace('~', "~0").replace('/', "~1")))
}

/// The headers for one call. Absent and null values have none.
#[must_use]
pub fn headers(mirrors: &[Mirror], arguments: Option<&Json>) -> Vec<(HeaderName, HeaderValue)> {
    said(mirrors, arguments).into_iter().map(|said| (said.header, header_value(&said.text))).collect()
}

/// What the headers for one call say.
#[must_use]
pub fn said(mirrors: &[Mirror], arguments: Option<&Json>) -> Vec<Said> {
    let Some(text) = arguments.filter(|_| !mirrors.is_empty()) else { return Vec::new() };
    let arguments = text.value();
    mirrors
        .iter()
        .filter_map(|mirror| {
            let value = mirror.path.iter().try_fold(&arguments, |value, name| value.get(name))?;
            let said = match value {
                Value::String(text) => text.clone(),
                Value::Number(number) if number.is_f64() => {
                    let raw = mirror.path.iter().try_fold(text.clone(), |text, name| member(Some(&text), name))?;
                    integer(raw.as_str()).unwrap_or_else(|| number.to_string())
                }
                Value::Number(number) => number.to_string(),
                Value::Bool(flag) => flag.to_string(),
                _ => return None,
            };
            Some(Said { header: mirror.header.clone(), text: said, number: value.is_number() })
        })
        .collect()
}

/// A number in nothing but digits; `None` where it has a fraction, or too many of them. A tree would take `42.0`, and what
/// is longer than 64 bits, for something else.
fn integer(text: &str) -> Option<String> {
    let (sign, rest) = text.strip_prefix('-').map_or(("", text), |rest| ("-", rest));
    let (mantissa, exponent) = match rest.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i64>().ok()?),
        None => (rest, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let all = format!("{whole}{fraction}");
    if whole.is_empty() || !all.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let digits = all.trim_matches('0');
    if digits.is_empty() {
        return Some("0".into());
    }
    let behind = all.len() - all.trim_end_matches('0').len();
    let zeros = exponent.checked_add(i64::try_from(behind).ok()?)?.checked_sub(i64::try_from(fraction.len()).ok()?)?;
    let zeros = usize::try_from(zeros).ok().filter(|zeros| digits.len() + zeros <= MAX_DIGITS)?;
    Some(format!("{sign}{digits}{}", "0".repeat(zeros)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_that_are_no_header_values_are_encoded() {
        for (text, value) in [
            ("list_repos", "list_repos"),
            ("two words", "two words"),
            ("", ""),
            ("é", "=?base64?w6k=?="),
            (" x", "=?base64?IHg=?="),
            ("a\nb", "=?base64?YQpi?="),
            ("=?base64?x?=", "=?base64?PT9iYXNlNjQ/eD89?="),
        ] {
            assert_eq!(header_value(text), value, "{text:?}");
        }
    }

    #[test]
    fn annotated_arguments_become_headers() {
        let schema = json!({"type":"object","properties":{
            "region":{"type":"string","x-mcp-header":"Region"},
            "deep":{"type":"object","properties":{"n":{"type":"integer","x-mcp-header":"N"}}},
            "flag":{"type":"boolean","x-mcp-header":"Flag"}}});
        let mirrors = mirrors(&schema).unwrap();
        let arguments = Json::from_parts(r#"{"region":"eü","deep":{"n":42},"flag":null}"#.into());
        let found = headers(&mirrors, Some(&arguments));
        let found: Vec<(&str, &str)> = found.iter().map(|(n, v)| (n.as_str(), v.to_str().unwrap())).collect();
        assert_eq!(found, [("mcp-param-region", "=?base64?ZcO8?="), ("mcp-param-n", "42")]);
        assert!(headers(&mirrors, None).is_empty());
    }

    #[test]
    fn numbers_are_written_and_compared_as_numbers() {
        let schema = json!({"properties":{
            "deep":{"properties":{"n":{"type":"integer","x-mcp-header":"N"}}},
            "text":{"type":"string","x-mcp-header":"Text"}}});
        let mirrors = mirrors(&schema).unwrap();
        for (written, plain) in [
            ("42", "42"),
            ("42.0", "42"),
            ("4.2e1", "42"),
            ("4.2E+1", "42"),
            ("4200e-2", "42"),
            ("-7.000", "-7"),
            ("-0", "0"),
            ("0e5", "0"),
            ("1e3", "1000"),
            ("12345678901234567890123", "12345678901234567890123"),
            ("1.2345678901234567890123e22", "12345678901234567890123"),
            ("18446744073709551615", "18446744073709551615"),
            ("4.25", "4.25"),
        ] {
            let arguments = Json::from_parts(format!(r#"{{"deep":{{"n":{written}}},"text":"42"}}"#));
            let said = said(&mirrors, Some(&arguments));
            assert_eq!(said[0].text, plain, "{written}");
            assert!(said[0].check(Header::One(plain)).is_ok() && said[0].check(Header::One(written)).is_ok());
            assert!(said[0].check(Header::One("43")).is_err() && said[0].check(Header::Absent).is_err(), "{written}");
            assert!(said[1].check(Header::One("42")).is_ok() && said[1].check(Header::One("42.0")).is_err());
        }
        for text in ["", "-", "e1", ".5", "1e999999999999999999999", "1e600", "1.5", "5e-1", "+1", "0x10", "1_0", "١"]
        {
            assert_eq!(integer(text), None, "{text}");
        }
    }

    #[test]
    fn an_argument_that_is_too_long_for_a_header_is_named() {
        let schema = json!({"type":"object","properties":{
            "a/b":{"type":"object","properties":{"region":{"type":"string","x-mcp-header":"Region"}}},
            "free":{"type":"string"}}});
        let mirrors = mirrors(&schema).unwrap();
        let of = |region: usize| json!({"a/b": {"region": "x".repeat(region)}, "free": "x".repeat(9_000)});
        assert_eq!(too_long(&mirrors, &of(MAX_VALUE)), None);
        assert_eq!(too_long(&mirrors, &of(MAX_VALUE + 1)).as_deref(), Some("/a~1b/region"));
    }

    #[test]
    fn invalid_annotations_are_refused() {
        let property = |schema: Value| json!({"properties":{"a":schema}});
        for schema in [
            json!({"x-mcp-header":"A"}),
            property(json!({"type":"string","x-mcp-header":""})),
            property(json!({"type":"string","x-mcp-header":"a b"})),
            property(json!({"type":"string","x-mcp-header":"A\r\nX: y"})),
            property(json!({"type":"string","x-mcp-header":7})),
            property(json!({"type":"number","x-mcp-header":"A"})),
            property(json!({"type":"array","items":{"type":"string","x-mcp-header":"A"}})),
            json!({"$defs":{"d":{"properties":{"a":{"type":"string","x-mcp-header":"A"}}}}}),
            json!({"properties":{"a":{"type":"string","x-mcp-header":"A"},"b":{"type":"string","x-mcp-header":"a"}}}),
        ] {
            assert!(mirrors(&schema).is_err(), "{schema}");
        }
        assert!(mirrors(&property(json!({"type":"string","default":{"x-mcp-header":"A"}}))).unwrap().is_empty());
    }
}
