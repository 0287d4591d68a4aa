//! `[telemetry]`: where spans and metrics go, over OTLP.

use http::{HeaderName, HeaderValue, Uri};
use url::Url;

use super::reader::{Lookup, Section};
use crate::domain::net::is_here;
use crate::domain::secret::Secret;

/// What OpenTelemetry's own variables are called.
const ENDPOINT: &str = "OTEL_EXPORTER_OTLP_ENDPOINT";
const HEADERS: &str = "OTEL_EXPORTER_OTLP_HEADERS";
const SERVICE: &str = "OTEL_SERVICE_NAME";

/// Where spans and metrics go, and how many of the spans.
#[derive(Debug, Clone, PartialEq)]
pub struct TelemetrySettings {
    /// The receiver; `/v1/traces` and `/v1/metrics` are put behind it.
    pub endpoint: Uri,
    /// What every request to it carries.
    pub headers: Vec<(HeaderName, Secret)>,
    /// The part of the traces that begin here which is sent, from 0 to 1. Those that a client began follow its choice.
    pub sampling: f64,
    /// `service.name`.
    pub service: String,
}

/// Reads the section, over what the environment says; absent where neither names a receiver.
pub(super) fn read(top: &Section<'_>, lookup: Lookup<'_>) -> Option<TelemetrySettings> {
    let Some(section) = top.section("telemetry") else { return of_environment(lookup) };
    let expected = "an http or https URL, such as `http://localhost:4318`";
    let named = section.keys().iter().any(|key| key == "otlp_endpoint");
    let endpoint = section.parsed("otlp_endpoint", expected, url);
    let mut headers = Vec::new();
    for (name, value) in section.text_map("headers") {
        match header(&name, &value) {
            Some(header) => headers.push(header),
            None => section.fault(Some("headers"), format!("`{name}` is no header that can be sent"), None),
        }
    }
    let (sampling, service) = (section.ratio("sampling"), section.text("service_name"));
    section.refuse_the_rest();
    let base = match endpoint {
        Some(endpoint) => Some(TelemetrySettings { endpoint, ..plain(lookup) }),
        None if named => None,
        None => of_environment(lookup),
    }?;
    let headers = if headers.is_empty() { base.headers } else { headers };
    if !headers.is_empty() && !is_safe(&base.endpoint) {
        let key = if named { "otlp_endpoint" } else { "headers" };
        let hint = "http is for this machine alone, or for a collector that asks for no headers";
        section.fault(Some(key), format!("`headers` need an https URL, not `{}`", base.endpoint), Some(hint.into()));
    }
    Some(TelemetrySettings {
        headers,
        sampling: sampling.unwrap_or(base.sampling),
        service: service.unwrap_or(base.service),
        endpoint: base.endpoint,
    })
}

/// What the environment says, as every program that speaks OTLP reads it.
#[must_use]
pub fn of_environment(lookup: Lookup<'_>) -> Option<TelemetrySettings> {
    let endpoint = lookup(ENDPOINT).filter(|text| !text.is_empty())?;
    let Some(endpoint) = url(&endpoint) else {
        tracing::warn!("`{ENDPOINT}` is not an http or https URL: nothing is sent");
        return None;
    };
    let headers = lookup(HEADERS).unwrap_or_default();
    let headers = headers.split(',').filter_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        let value = percent_encoding::percent_decode_str(value.trim()).decode_utf8().ok()?;
        header(name.trim(), &value)
    });
    let headers: Vec<_> = headers.collect();
    if !headers.is_empty() && !is_safe(&endpoint) {
        tracing::warn!(
            "`{HEADERS}` needs an https URL in `{ENDPOINT}`, which leads to another machine: nothing is sent"
        );
        return None;
    }
    Some(TelemetrySettings { endpoint, headers, ..plain(lookup) })
}

/// Whether credentials may travel to it: encrypted, or not beyond this machine.
fn is_safe(endpoint: &Uri) -> bool {
    endpoint.scheme_str() == Some("https") || Url::parse(&endpoint.to_string()).is_ok_and(|url| is_here(&url))
}

fn plain(lookup: Lookup<'_>) -> TelemetrySettings {
    let service = lookup(SERVICE).filter(|name| !name.is_empty()).unwrap_or_else(|| "toolgate".into());
    TelemetrySettings { endpoint: Uri::default(), headers: Vec::new(), sampling: 1.0, service }
}

fn url(text: &str) -> Option<Uri> {
    let url: Uri = text.trim().trim_end_matches('/').parse().ok()?;
    let fits = matches!(url.scheme_str(), Some("http" | "https")) && url.host().is_some() && url.query().is_none();
    fits.then_some(url)
}

fn header(name: &str, value: &str) -> Option<(HeaderName, Secret)> {
    HeaderValue::from_str(value).ok()?;
    Some((name.parse().ok()?, Secret::new(value.to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::file::read;

    fn load(table: &str, environment: &[(&str, &str)]) -> Result<Option<TelemetrySettings>, String> {
        let lookup =
            |name: &str| environment.iter().find(|(one, _)| *one == name).map(|(_, value)| (*value).to_owned());
        let settings = read("t.toml", table, &lookup).map_err(|faults| faults.to_string())?;
        Ok(settings.telemetry.map(|settings| (*settings).clone()))
    }

    #[test]
    fn nothing_is_sent_unless_somebody_says_where() {
        assert_eq!(load("", &[]).unwrap(), None);
        assert_eq!(load("[telemetry]\nsampling = 0.5\n", &[]).unwrap(), None);
        assert_eq!(load("", &[(ENDPOINT, "")]).unwrap(), None);
        assert_eq!(load("", &[(ENDPOINT, "localhost")]).unwrap(), None);
    }

    #[test]
    fn the_file_goes_before_the_environment() {
        let environment = [(ENDPOINT, "https://there:4318/"), (HEADERS, "a=b%20c,nonsense,x-key=k=v"), (SERVICE, "gw")];
        let found = load("", &environment).unwrap().unwrap();
        assert_eq!(
            (found.endpoint.to_string().as_str(), found.sampling, found.service.as_str()),
            ("https://there:4318/", 1.0, "gw")
        );
        let headers: Vec<_> = found.headers.iter().map(|(name, value)| (name.as_str(), value.expose())).collect();
        assert_eq!(headers, [("a", "b c"), ("x-key", "k=v")]);
        assert!(!format!("{found:?}").contains("b c"), "{found:?}");
        let file = "[telemetry]\notlp_endpoint = \"https://here/otlp\"\nheaders = { authorization = \"Bearer ${T:-s3cret}\" }\n\
                    sampling = 0.25\nservice_name = \"mine\"\n";
        let found = load(file, &environment).unwrap().unwrap();
        assert_eq!(
            (found.endpoint.to_string().as_str(), found.sampling, found.service.as_str()),
            ("https://here/otlp", 0.25, "mine")
        );
        assert_eq!(found.headers.len(), 1);
        assert!(!format!("{found:?}").contains("s3cret"), "{found:?}");
        let found = load("[telemetry]\nsampling = 1\n", &environment).unwrap().unwrap();
        assert_eq!(found.headers.len(), 2, "the rest is the environment's");
    }

    #[test]
    fn faults_have_places() {
        let faults = load(
            "[telemetry]\notlp_endpoint = \"grpc://x\"\nsampling = 1.5\nheaders = { \"a b\" = \"c\" }\nprotocol = \"grpc\"\n",
            &[],
        );
        let faults = faults.unwrap_err();
        for (at, says) in [
            ("t.toml:2:", "`telemetry.otlp_endpoint` must be an http or https URL"),
            ("t.toml:3:", "`telemetry.sampling` must be a number from 0 to 1"),
            ("t.toml:4:", "`a b` is no header that can be sent"),
            ("t.toml:5:1: ", "unknown key `telemetry.protocol`"),
        ] {
            assert!(faults.lines().any(|line| line.starts_with(at) && line.contains(says)), "{faults}");
        }
        assert!(load("[telemetry]\nsampling = \"all\"\n", &[]).is_err());
    }

    #[test]
    fn credentials_do_not_travel_in_the_clear() {
        let of = |endpoint: &str| format!("[telemetry]\notlp_endpoint = \"{endpoint}\"\n");
        let headers = "headers = { authorization = \"Bearer s3cret\" }\n";
        for endpoint in ["https://far/", "http://localhost:4318", "http://127.0.0.1:4318/otlp", "http://[::1]:4318"] {
            assert!(load(&(of(endpoint) + headers), &[]).is_ok(), "{endpoint}");
        }
        for endpoint in ["http://far:4318/", "http://10.0.0.1:4318", "http://localhost.far/"] {
            assert!(load(&of(endpoint), &[]).is_ok(), "without headers");
            let fault = load(&(of(endpoint) + headers), &[]).unwrap_err();
            assert!(fault.starts_with("t.toml:2:") && fault.contains("`headers` need an https URL"), "{fault}");
            assert!(!fault.contains("s3cret"), "{fault}");
            let environment = [(ENDPOINT, endpoint), (HEADERS, "a=b")];
            assert_eq!(load("", &environment).unwrap(), None);
            assert!(
                load(&of(endpoint), &environment[1..]).unwrap().unwrap().headers.is_empty(),
                "the file names it alone"
            );
            let fault = load(&format!("[telemetry]\n{headers}"), &environment[..1]).unwrap_err();
            assert!(fault.starts_with("t.toml:2:"), "{fault}");
        }
    }
}
