//! How long calls took, as histograms that grow from the start: whatever is lost on the way, the next tells it too.

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::{AggregationTemporality, Histogram, HistogramDataPoint, Metric};

use super::Ended;
use super::span::{method, target, text};
use crate::domain::clock::Moment;
use crate::domain::tool::Kind;

/// Upper ends of the buckets in seconds, as the conventions have them.
const BOUNDS: [f64; 14] = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0];
/// Series of one metric; what comes after is counted together.
const MAX_SERIES: usize = 1000;
/// Stands for what named nothing that exists: callers make such names up.
const OTHER: &str = "_OTHER";

/// What is told apart.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Series {
    Of {
        kind: &'static str,
        name: Option<(&'static str, String)>,
        server: Option<String>,
        error: Option<String>,
    },
    /// Everything beyond the bound.
    Rest,
}

#[derive(Debug, Clone, Default)]
struct Durations {
    count: u64,
    sum: f64,
    buckets: [u64; BOUNDS.len() + 1],
}

impl Durations {
    fn record(&mut self, micros: u64) {
        #[expect(clippy::cast_precision_loss, reason = "a duration of 2^53 µs is 285 years")]
        let seconds = micros as f64 / 1_000_000.0;
        self.count += 1;
        self.sum += seconds;
        let place = BOUNDS.iter().position(|bound| seconds <= *bound).unwrap_or(BOUNDS.len());
        if let Some(bucket) = self.buckets.get_mut(place) {
            *bucket += 1;
        }
    }
}

type Metered = BTreeMap<Series, Durations>;

/// The two histograms: of what clients asked, and of what backends were asked.
#[derive(Debug)]
pub(super) struct Meters {
    since: Moment,
    server: Metered,
    client: Metered,
    changed: bool,
}

impl Meters {
    pub(super) const fn new(since: Moment) -> Self {
        Self { since, server: BTreeMap::new(), client: BTreeMap::new(), changed: false }
    }

    pub(super) fn record(&mut self, call: &Ended) {
        let tool = call.tool.as_ref();
        let label = tool.map_or(OTHER, |tool| &*tool.label);
        let error = call.error.map(str::to_owned);
        add(&mut self.server, series(call.kind, label, None, error), call.ended.saturating_sub(call.began));
        for attempt in &call.noted.attempts {
            let Some(tool) = tool else { continue };
            let error = (attempt.ending != "ok").then(|| attempt.ending.to_owned());
            let series = series(call.kind, &tool.id.tool, Some(tool.id.server.as_str()), error);
            let ended = attempt.ended.unwrap_or(call.ended);
            add(&mut self.client, series, ended.saturating_sub(attempt.began));
        }
        self.changed = true;
    }

    /// What was told did not arrive.
    pub(super) const fn tell_again(&mut self) {
        self.changed = true;
    }

    /// The metrics, where anything has changed since they were told last.
    pub(super) fn export(&mut self, now: Moment) -> Vec<Metric> {
        if !std::mem::take(&mut self.changed) {
            return Vec::new();
        }
        let metrics = [
            ("mcp.server.operation.duration", "Calls as clients made them", &self.server),
            ("mcp.client.operation.duration", "Attempts at backends", &self.client),
        ];
        let told = metrics.into_iter().filter(|(.., metered)| !metered.is_empty());
        told.map(|(name, description, metered)| self.metric(name, description, metered, now)).collect()
    }

    fn metric(&self, name: &str, description: &str, metered: &Metered, now: Moment) -> Metric {
        let nanos = |moment: Moment| u64::try_from(moment.0).unwrap_or(0).saturating_mul(1_000_000);
        let point = |(series, durations): (&Series, &Durations)| HistogramDataPoint {
            attributes: attributes(series),
            start_time_unix_nano: nanos(self.since),
            time_unix_nano: nanos(now),
            count: durations.count,
            sum: Some(durations.sum),
            bucket_counts: durations.buckets.to_vec(),
            explicit_bounds: BOUNDS.to_vec(),
            ..HistogramDataPoint::default()
        };
        let histogram = Histogram {
            data_points: metered.iter().map(point).collect(),
            aggregation_temporality: AggregationTemporality::Cumulative.into(),
        };
        Metric {
            name: name.into(),
            description: description.into(),
            unit: "s".into(),
            data: Some(Data::Histogram(histogram)),
            ..Metric::default()
        }
    }
}

fn series(kind: Kind, name: &str, server: Option<&str>, error: Option<String>) -> Series {
    Series::Of { kind: method(kind), name: target(kind, name), server: server.map(str::to_owned), error }
}

fn add(metered: &mut Metered, series: Series, micros: u64) {
    let full = metered.len() >= MAX_SERIES && !metered.contains_key(&series);
    metered.entry(if full { Series::Rest } else { series }).or_default().record(micros);
}

fn attributes(series: &Series) -> Vec<KeyValue> {
    let Series::Of { kind, name, server, error } = series else {
        let value = Some(AnyValue { value: Some(Value::BoolValue(true)) });
        return vec![KeyValue { key: "otel.metric.overflow".into(), value, ..KeyValue::default() }];
    };
    let mut attributes = vec![text("mcp.method.name", *kind)];
    if *kind == method(Kind::Tool) {
        attributes.push(text("gen_ai.operation.name", "execute_tool"));
    }
    attributes.extend(name.iter().map(|(key, name)| text(key, name)));
    attributes.extend(server.iter().map(|server| text("toolgate.server", server)));
    attributes.extend(error.iter().map(|error| text("error.type", error)));
    attributes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_falls_into_the_first_bucket_that_holds_it() {
        let mut durations = Durations::default();
        for micros in [0, 10_000, 10_001, 1_000_000, 300_000_000, 300_000_001] {
            durations.record(micros);
        }
        assert_eq!((durations.buckets[0], durations.buckets[1], durations.buckets[6]), (2, 1, 1));
        assert_eq!((durations.buckets[13], durations.buckets[14], durations.count), (1, 1, 6));
    }

    #[test]
    fn there_is_an_end_of_series() {
        let mut metered = Metered::new();
        for n in 0..MAX_SERIES + 50 {
            add(&mut metered, series(Kind::Tool, &format!("t{n}"), None, None), 1);
        }
        add(&mut metered, series(Kind::Tool, "t0", None, None), 1);
        assert_eq!(metered.len(), MAX_SERIES + 1);
        assert_eq!(metered.get(&Series::Rest).map(|rest| rest.count), Some(50));
        assert_eq!(attributes(&Series::Rest)[0].key, "otel.metric.overflow");
    }
}
