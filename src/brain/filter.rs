//! Filters: `{field: value}`, or operators in place of the value. All conditions hold together.

use std::cmp::Ordering;

use serde_json::{Map, Value};

use super::QueryError;
use super::query::MAX_CONDITIONS;
use super::view::{Field, Seen};
use crate::store::brain::{Holds, Indexed, Source, TypeId, key_text};

/// Values of one `in`.
const MAX_CHOICES: usize = 200;
/// Values that are looked up of an entity that another condition has found.
const MAX_ASKED: usize = 8;
const OPERATORS: &str = "eq, ne, gt, gte, lt, lte, in, contains";

/// One condition on one field.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Condition {
    field: Field,
    test: Test,
}

#[derive(Debug, Clone, PartialEq)]
enum Test {
    Equal(Value),
    OneOf(Vec<Value>),
    Not(Value),
    /// The order that the value must stand in, and whether being equal will do.
    Ordered(Ordering, bool, Value),
    Contains(Value),
}

/// The conditions of a filter on entities of a type.
///
/// # Errors
/// Where it names a field or an operator that is not there, or asks too much.
pub(super) fn conditions(filter: &Map<String, Value>, seen: &Seen) -> Result<Vec<Condition>, QueryError> {
    let mut found = Vec::new();
    for (name, wanted) in filter {
        let field = seen.require(name)?;
        let mut add = |test| found.push(Condition { field: field.clone(), test });
        match wanted {
            Value::Object(operators) => {
                if operators.is_empty() {
                    return Err(QueryError::invalid(format!("the filter on `{name}` says nothing: use {OPERATORS}")));
                }
                for (operator, value) in operators {
                    add(test(name, operator, value)?);
                }
            }
            Value::Array(_) => add(test(name, "in", wanted)?),
            value => add(Test::Equal(value.clone())),
        }
    }
    if found.len() > MAX_CONDITIONS {
        return Err(QueryError::invalid(format!(
            "a filter has at most {MAX_CONDITIONS} conditions, not {}",
            found.len()
        )));
    }
    Ok(found)
}

fn test(name: &str, operator: &str, value: &Value) -> Result<Test, QueryError> {
    let scalar = || match value {
        Value::Array(_) | Value::Object(_) => {
            Err(QueryError::invalid(format!("`{operator}` on `{name}` takes one value, not a list or an object")))
        }
        scalar => Ok(scalar.clone()),
    };
    let ordered = |order, equal| match scalar()? {
        Value::Null | Value::Bool(_) => {
            Err(QueryError::invalid(format!("`{operator}` on `{name}` takes a number or a text")))
        }
        value => Ok(Test::Ordered(order, equal, value)),
    };
    match operator {
        "eq" => Ok(Test::Equal(scalar()?)),
        "ne" => Ok(Test::Not(scalar()?)),
        "gt" => ordered(Ordering::Greater, false),
        "gte" => ordered(Ordering::Greater, true),
        "lt" => ordered(Ordering::Less, false),
        "lte" => ordered(Ordering::Less, true),
        "contains" => Ok(Test::Contains(scalar()?)),
        "in" => match value {
            Value::Array(choices) if choices.len() <= MAX_CHOICES => {
                if choices.iter().any(|choice| choice.is_array() || choice.is_object()) {
                    return Err(QueryError::invalid(format!("`in` on `{name}` takes texts, numbers and booleans")));
                }
                Ok(Test::OneOf(choices.clone()))
            }
            _ => Err(QueryError::invalid(format!("`in` on `{name}` takes a list of at most {MAX_CHOICES} values"))),
        },
        other => {
            let other: String = other.chars().take(40).collect();
            Err(QueryError::invalid(format!("the filter on `{name}` has no operator `{other}`: known are {OPERATORS}")))
        }
    }
}

impl Condition {
    /// Whether an entity fulfils it. Of a list, one item that does is enough.
    pub(super) fn holds(&self, key: &Value, body: &Map<String, Value>) -> bool {
        let value = self.field.of(key, body);
        let any = |holds: &dyn Fn(&Value) -> bool| match value {
            Value::Array(items) => items.iter().any(holds),
            one => holds(one),
        };
        match &self.test {
            Test::Equal(wanted) => any(&|value| same(value, wanted)),
            Test::OneOf(choices) => any(&|value| choices.iter().any(|choice| same(value, choice))),
            Test::Not(unwanted) => !any(&|value| same(value, unwanted)),
            Test::Ordered(order, equal, bound) => any(&|value| {
                compare(value, bound).is_some_and(|found| found == *order || (*equal && found == Ordering::Equal))
            }),
            Test::Contains(part) => any(&|value| contains(value, part)),
        }
    }

    /// What an index can say of an entity that fulfils it, without reading the entity.
    pub(super) fn asks(&self) -> Option<Holds> {
        let Field::Attribute { id, .. } = &self.field else { return None };
        let wanted = match &self.test {
            Test::Equal(value) => std::slice::from_ref(value),
            Test::OneOf(choices) if choices.len() <= MAX_ASKED => choices.as_slice(),
            _ => return None,
        };
        // What is empty is in no index.
        let known = !wanted.is_empty() && !wanted.iter().any(Value::is_null);
        known.then(|| Holds { attribute: *id, values: wanted.iter().flat_map(Indexed::all).collect() })
    }

    /// Where everything stands that fulfils it, where an index knows.
    pub(super) fn sources(&self, id: TypeId) -> Option<Vec<Source>> {
        let of = |value: &Value| -> Option<Vec<Source>> {
            match &self.field {
                Field::Key => Some(key_text(value).map(|key| Source::Key(id, key)).into_iter().collect()),
                // What is empty is in no index.
                Field::Attribute { .. } if value.is_null() => None,
                Field::Attribute { id, .. } => {
                    let source = |value| Source::Value { attribute: *id, value };
                    Some(Indexed::all(value).into_iter().map(source).collect())
                }
            }
        };
        match (&self.test, &self.field) {
            (Test::Equal(value), _) => of(value),
            (Test::OneOf(choices), _) => {
                choices.iter().map(of).collect::<Option<Vec<_>>>().map(|found| found.into_iter().flatten().collect())
            }
            (Test::Ordered(order, _, bound @ Value::Number(_)), Field::Attribute { id, .. }) => {
                let end = Indexed::all(bound).into_iter().next();
                let (low, high) = if *order == Ordering::Greater { (end, None) } else { (None, end) };
                Some(vec![Source::Between { attribute: *id, low, high }])
            }
            _ => None,
        }
    }
}

/// Whether two scalars are the same; a number and a text are where they read the same.
pub(super) fn same(value: &Value, wanted: &Value) -> bool {
    match (value, wanted) {
        (Value::Null, Value::Null) => true,
        (Value::String(one), Value::String(other)) => one == other,
        (Value::Number(one), Value::Number(other)) => one == other || one.as_f64() == other.as_f64(),
        (Value::Bool(one), Value::Bool(other)) => one == other,
        (Value::String(text), other @ (Value::Number(_) | Value::Bool(_)))
        | (other @ (Value::Number(_) | Value::Bool(_)), Value::String(text)) => {
            let written = other.to_string();
            written == *text || number(text).is_some_and(|number| other.as_f64() == Some(number))
        }
        _ => false,
    }
}

/// Numbers by size, texts by letters; a text that reads as a number by its size where the other is one.
fn compare(value: &Value, bound: &Value) -> Option<Ordering> {
    match (value, bound) {
        (Value::Number(one), Value::Number(other)) => match (one.as_i64(), other.as_i64()) {
            (Some(one), Some(other)) => Some(one.cmp(&other)),
            _ => one.as_f64()?.partial_cmp(&other.as_f64()?),
        },
        (Value::Number(one), Value::String(text)) => one.as_f64()?.partial_cmp(&number(text)?),
        (Value::String(one), Value::String(other)) => Some(one.to_lowercase().cmp(&other.to_lowercase())),
        _ => None,
    }
}

fn contains(value: &Value, part: &Value) -> bool {
    match (value, part) {
        (Value::String(text), Value::String(part)) => text.to_lowercase().contains(&part.to_lowercase()),
        _ => same(value, part),
    }
}

fn number(text: &str) -> Option<f64> {
    text.parse().ok().filter(|number: &f64| number.is_finite())
}
