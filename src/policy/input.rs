//! `context.input`: types from a tool's `inputSchema`, and values from a call's arguments.

use std::collections::HashSet;

use cedar_policy::RestrictedExpression;
use serde_json::{Map, Number, Value, json};

use super::reads::Fields;

/// Bounds of a backend's schema: what lies beyond is left out, not refused.
const MAX_PROPERTIES: usize = 512;
const MAX_DEPTH: usize = 8;
const MAX_LEFT_OUT: usize = 64;
/// Cedar's decimal: a 64-bit integer of ten-thousandths.
const DECIMAL_PLACES: usize = 4;

/// How a tool's arguments become `context.input`. Made once per tool.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct InputPlan {
    fields: Vec<Field>,
    /// Properties without a Cedar type, and why: they are not in `context.input`.
    pub(super) left_out: Vec<LeftOut>,
}

/// An argument that a policy cannot read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LeftOut {
    pub(super) path: String,
    pub(super) why: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Field {
    name: String,
    kind: Kind,
    required: bool,
    /// `null` stands for absence.
    nullable: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Long,
    Decimal,
    Text,
    Boolean,
    Set(Box<Self>),
    Record(Vec<Field>),
}

/// An argument that does not fit its type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Misfit {
    pub(super) path: String,
    pub(super) why: &'static str,
}

impl InputPlan {
    /// Reads an `inputSchema` of any shape and any intention.
    pub(super) fn of(schema: &Value) -> Self {
        let mut reader = Reader { root: schema, left: MAX_PROPERTIES, left_out: Vec::new() };
        let fields = reader.fields(schema, "", 0);
        Self { fields, left_out: reader.left_out }
    }

    /// The type of `context.input` in Cedar's JSON schema format.
    pub(super) fn cedar_type(&self) -> Value {
        record_type(&self.fields)
    }

    /// The value of `context.input`, with those of its members that are `wanted`. The others are checked too, for
    /// whether arguments fit shall not depend on which of them a policy looks at.
    ///
    /// # Errors
    /// The first argument that does not fit.
    pub(super) fn value(&self, arguments: Option<&Value>, wanted: &Fields) -> Result<RestrictedExpression, Misfit> {
        let none = Map::new();
        let members = match arguments {
            None | Some(Value::Null) => &none,
            Some(Value::Object(members)) => members,
            Some(_) => return Err(Misfit { path: String::new(), why: "not an object" }),
        };
        record(&self.fields, members, &|name| wanted.contains(name))
    }
}

fn record_type(fields: &[Field]) -> Value {
    let attributes: Map<String, Value> = fields
        .iter()
        .map(|field| {
            let mut kind = field.kind.cedar_type();
            if let Value::Object(members) = &mut kind {
                members.insert("required".into(), Value::Bool(field.required));
            }
            (field.name.clone(), kind)
        })
        .collect();
    json!({ "type": "Record", "attributes": attributes })
}

impl Kind {
    fn cedar_type(&self) -> Value {
        match self {
            Self::Long => json!({ "type": "Long" }),
            Self::Decimal => json!({ "type": "Extension", "name": "decimal" }),
            Self::Text => json!({ "type": "String" }),
            Self::Boolean => json!({ "type": "Boolean" }),
            Self::Set(of) => json!({ "type": "Set", "element": of.cedar_type() }),
            Self::Record(fields) => record_type(fields),
        }
    }

    /// Whether [`Self::value`] would succeed, without making anything of what may be large.
    fn check(&self, value: &Value) -> Result<(), Misfit> {
        match (self, value) {
            (Self::Text, Value::String(_)) => Ok(()),
            (Self::Set(of), Value::Array(items)) => items
                .iter()
                .enumerate()
                .try_for_each(|(at, item)| of.check(item).map_err(|misfit| misfit.within(&at.to_string()))),
            (Self::Record(fields), Value::Object(members)) => record(fields, members, &|_| false).map(drop),
            _ => self.value(value).map(drop),
        }
    }

    fn value(&self, value: &Value) -> Result<RestrictedExpression, Misfit> {
        let misfit = |why| Misfit { path: String::new(), why };
        Ok(match (self, value) {
            (Self::Text, Value::String(text)) => RestrictedExpression::new_string(text.clone()),
            (Self::Boolean, Value::Bool(flag)) => RestrictedExpression::new_bool(*flag),
            (Self::Long, Value::Number(number)) => {
                RestrictedExpression::new_long(whole(number).ok_or(misfit("not an integer of 64 bits"))?)
            }
            (Self::Decimal, Value::Number(number)) => RestrictedExpression::new_decimal(
                decimal(number).ok_or(misfit("a number that a decimal of four places cannot hold"))?,
            ),
            (Self::Set(of), Value::Array(items)) => {
                let mut set = Vec::with_capacity(items.len());
                for (at, item) in items.iter().enumerate() {
                    set.push(of.value(item).map_err(|misfit| misfit.within(&at.to_string()))?);
                }
                RestrictedExpression::new_set(set)
            }
            (Self::Record(fields), Value::Object(members)) => record(fields, members, &|_| true)?,
            _ => return Err(misfit("a value of another type")),
        })
    }
}

impl Misfit {
    fn within(mut self, name: &str) -> Self {
        self.path = format!("/{name}{}", self.path);
        self
    }
}

fn record(
    fields: &[Field],
    members: &Map<String, Value>,
    wanted: &dyn Fn(&str) -> bool,
) -> Result<RestrictedExpression, Misfit> {
    let mut pairs = Vec::with_capacity(fields.len());
    for field in fields {
        match members.get(&field.name) {
            Some(Value::Null) if field.nullable => {}
            Some(value) if wanted(&field.name) => {
                let value = field.kind.value(value).map_err(|misfit| misfit.within(&field.name))?;
                pairs.push((field.name.clone(), value));
            }
            Some(value) => field.kind.check(value).map_err(|misfit| misfit.within(&field.name))?,
            None if field.required => return Err(Misfit { path: format!("/{}", field.name), why: "missing" }),
            None => {}
        }
    }
    // The names come from a map, so none is there twice; that is the only way to fail.
    RestrictedExpression::new_record(pairs)
        .map_err(|_| Misfit { path: String::new(), why: "a name that is there twice" })
}

/// Integers as JSON Schema sees them: `5.0` is one.
fn whole(number: &Number) -> Option<i64> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    number.as_i64().or_else(|| {
        let float = number.as_f64().filter(|float| number.is_f64() && float.fract() == 0.0 && float.abs() <= EXACT)?;
        format!("{float:.0}").parse().ok()
    })
}

/// The text of a Cedar decimal that is exactly this number.
fn decimal(number: &Number) -> Option<String> {
    let text = number.to_string();
    let text = match text.split_once('.') {
        // Exponents are for numbers beyond what a decimal holds, or below its last place.
        _ if text.contains(['e', 'E']) => return None,
        Some((_, places)) if places.len() > DECIMAL_PLACES => return None,
        Some(_) => text,
        None => format!("{text}.0"),
    };
    // 2^63 ten-thousandths; the edge itself is left to Cedar, which refuses what overflows.
    (number.as_f64()?.abs() <= 922_337_203_685_477.5).then_some(text)
}

/// Walks a schema, spending a budget.
struct Reader<'a> {
    root: &'a Value,
    left: usize,
    left_out: Vec<LeftOut>,
}

impl<'a> Reader<'a> {
    fn fields(&mut self, schema: &'a Value, path: &str, depth: usize) -> Vec<Field> {
        let Some(properties) = schema.get("properties").and_then(Value::as_object) else { return Vec::new() };
        let required: HashSet<&str> =
            schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
        let mut fields = Vec::new();
        for (name, property) in properties {
            if self.left == 0 {
                self.leave_out(path, "more properties than are typed");
                break;
            }
            self.left -= 1;
            let place = format!("{path}/{name}");
            match self.kind(property, &place, depth + 1) {
                Ok((kind, nullable)) => {
                    let required = !nullable && required.contains(name.as_str());
                    fields.push(Field { name: name.clone(), kind, required, nullable });
                }
                Err(why) => self.leave_out(&place, why),
            }
        }
        fields
    }

    fn leave_out(&mut self, path: &str, why: &'static str) {
        if self.left_out.len() < MAX_LEFT_OUT {
            self.left_out.push(LeftOut { path: path.chars().take(200).collect(), why });
        }
    }

    /// The type of one property and whether it may be `null`.
    fn kind(&mut self, schema: &'a Value, path: &str, depth: usize) -> Result<(Kind, bool), &'static str> {
        if depth > MAX_DEPTH {
            return Err("nested too deep");
        }
        if let Some(target) = schema.get("$ref").and_then(Value::as_str) {
            let target = target.strip_prefix('#').and_then(|pointer| self.root.pointer(pointer));
            return self.kind(target.ok_or("a reference to elsewhere")?, path, depth + 1);
        }
        if let Some(choices) = schema.get("anyOf").or_else(|| schema.get("oneOf")).and_then(Value::as_array) {
            return match choices.as_slice() {
                [one, null] | [null, one] if null.get("type").and_then(Value::as_str) == Some("null") => {
                    self.kind(one, path, depth + 1).map(|(kind, _)| (kind, true))
                }
                _ => Err("a choice of types"),
            };
        }
        if ["allOf", "not", "if"].into_iter().any(|word| schema.get(word).is_some()) {
            return Err("a condition on types");
        }
        let (name, nullable) = match schema.get("type") {
            Some(Value::String(name)) => (name.as_str(), false),
            Some(Value::Array(names)) => match names.as_slice() {
                [Value::String(name)] => (name.as_str(), false),
                [Value::String(name), Value::String(null)] if null == "null" => (name.as_str(), true),
                [Value::String(null), Value::String(name)] if null == "null" => (name.as_str(), true),
                _ => return Err("a choice of types"),
            },
            _ if all_texts(schema) => ("string", false),
            _ => return Err("no type"),
        };
        Ok((self.typed(name, schema, path, depth)?, nullable))
    }

    fn typed(&mut self, name: &str, schema: &'a Value, path: &str, depth: usize) -> Result<Kind, &'static str> {
        match name {
            "integer" => Ok(Kind::Long),
            "number" => Ok(Kind::Decimal),
            "string" => Ok(Kind::Text),
            "boolean" => Ok(Kind::Boolean),
            "array" => {
                if schema.get("prefixItems").is_some() {
                    return Err("an array of mixed types");
                }
                let items = schema.get("items").filter(|items| items.is_object()).ok_or("an array without a type")?;
                match self.kind(items, &format!("{path}/*"), depth + 1)? {
                    (kind, false) => Ok(Kind::Set(Box::new(kind))),
                    (_, true) => Err("an array that may hold null"),
                }
            }
            "object" if schema.get("additionalProperties") == Some(&Value::Bool(false)) => {
                Ok(Kind::Record(self.fields(schema, path, depth + 1)))
            }
            "object" => Err("an open object"),
            _ => Err("a type that Cedar lacks"),
        }
    }
}

/// `enum` or `const` of strings alone.
fn all_texts(schema: &Value) -> bool {
    match (schema.get("enum"), schema.get("const")) {
        (Some(Value::Array(choices)), _) => !choices.is_empty() && choices.iter().all(Value::is_string),
        (None, Some(only)) => only.is_string(),
        _ => false,
    }
}
