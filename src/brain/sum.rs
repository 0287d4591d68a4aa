//! Sums as people do them: of decimals, not of binary fractions, as long as they fit.

use serde_json::{Map, Number, Value, json};

use super::view::Field;

/// Decimal places that are kept exactly.
const PLACES: u32 = 9;

/// The sum of what is a number.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Sum {
    /// In units of the last place.
    exact: Option<i128>,
    rough: f64,
    lost: bool,
}

impl Sum {
    pub(super) fn add(&mut self, value: &Value) {
        let Value::Number(number) = value else { return };
        self.rough += number.as_f64().unwrap_or(0.0);
        match units(number).and_then(|units| self.exact.unwrap_or(0).checked_add(units)) {
            Some(sum) => self.exact = Some(sum),
            None => self.lost = true,
        }
    }

    /// The sum, an integer where it is one; 0 of nothing.
    pub(super) fn value(&self) -> Value {
        let unit = 10_i128.pow(PLACES);
        let exact = self.exact.unwrap_or(0);
        if self.lost {
            return json!(self.rough);
        }
        if exact % unit == 0
            && let Ok(whole) = i64::try_from(exact / unit)
        {
            return json!(whole);
        }
        let sign = if exact < 0 { "-" } else { "" };
        let places = PLACES as usize;
        let text = format!(
            "{sign}{}.{:0places$}",
            exact.unsigned_abs() / unit.unsigned_abs(),
            exact.unsigned_abs() % unit.unsigned_abs()
        );
        text.parse::<f64>().ok().and_then(Number::from_f64).map_or(json!(self.rough), Value::Number)
    }
}

/// A number in units of the last place, where nothing of it is lost.
fn units(number: &Number) -> Option<i128> {
    let text = number.to_string();
    let (sign, digits) = text.strip_prefix('-').map_or((1, text.as_str()), |rest| (-1, rest));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let missing = PLACES.checked_sub(u32::try_from(fraction.len()).ok()?)?;
    let all: i128 = format!("{whole}{fraction}").parse().ok()?;
    all.checked_mul(10_i128.pow(missing))?.checked_mul(sign)
}

/// What a query with aggregates works out.
#[derive(Debug, Default)]
pub(super) struct Aggregates {
    pub(super) count: u64,
    pub(super) sums: Vec<(String, Value)>,
}

/// Sums under way.
pub(super) struct Adding<'s> {
    count: u64,
    sums: Vec<(&'s str, &'s Field, Sum)>,
}

impl<'s> Adding<'s> {
    pub(super) fn new(fields: &'s [(String, Field)]) -> Self {
        Self { count: 0, sums: fields.iter().map(|(name, field)| (name.as_str(), field, Sum::default())).collect() }
    }

    pub(super) fn add(&mut self, key: &Value, body: &Map<String, Value>) {
        self.count += 1;
        for (_, field, sum) in &mut self.sums {
            sum.add(field.of(key, body));
        }
    }

    pub(super) fn done(self) -> Aggregates {
        let sums = self.sums.into_iter().map(|(name, _, sum)| (name.to_owned(), sum.value())).collect();
        Aggregates { count: self.count, sums }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(values: &Value) -> Value {
        let mut sum = Sum::default();
        values.as_array().unwrap().iter().for_each(|value| sum.add(value));
        sum.value()
    }

    #[test]
    fn decimals_add_up() {
        assert_eq!(sum(&json!([0.1, 0.2])).to_string(), "0.3");
        assert_eq!(sum(&json!([1200.50, -200.25, 3])).to_string(), "1003.25");
        assert_eq!(sum(&json!([1.5, 2.5])).to_string(), "4");
        assert_eq!(sum(&json!([-0.5])).to_string(), "-0.5");
        assert_eq!(sum(&json!(["7", null, true, [1]])).to_string(), "0");
        assert_eq!(sum(&json!([1e300, 1.0])).to_string(), "1e+300");
        assert_eq!(sum(&json!([i64::MAX, 1])).to_string(), "9.223372036854776e+18");
    }
}
