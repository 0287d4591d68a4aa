//! A record as readers see it: JSON and CSV.

use serde::{Serialize, Serializer};

use crate::domain::audit::{Entry, Sent};
use crate::domain::json::{Json, hex};
use crate::store::{AuditRecord, IntentLink};

/// The first line of a CSV export. The order of the columns is part of the contract.
pub const CSV_HEADER: &str = "id,time,request_id,entrance,key,user,agent,server,tool,decision,outcome,policies,\
policy_version,reason,dlp_result,latency_ms,arguments_digest,arguments,notes,seq,prev,hash,intent_time,intent_hash,kind,\
phase,code,rule,parent,era,trace_id,span_id,backend_transport,backend_era,backend_attempts,intent_seq,intent_prev";

/// A record: its outcome, and the intent that came before it where there is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record(AuditRecord);

impl From<AuditRecord> for Record {
    fn from(record: AuditRecord) -> Self {
        Self(record)
    }
}

impl Record {
    /// Where it stands in the chain.
    #[must_use]
    pub fn seq(&self) -> i64 {
        self.0.seq
    }

    /// What the entry says; nothing where the stored text was altered beyond reading.
    #[must_use]
    pub fn entry(&self) -> Option<Entry> {
        serde_json::from_str(&self.0.text).ok()
    }

    /// The entry exactly as it was hashed, with `seq`, `prev`, `hash` and `intent` after its own members. So
    /// whoever has the export cuts the line before `,"seq":` from the right, puts `}` there, and can check the hash.
    #[must_use]
    pub fn json(&self) -> Json {
        let AuditRecord { seq, text, prev, hash, intent, .. } = &self.0;
        let mut out = match text.strip_suffix('}') {
            Some(members) if self.entry().is_some() => members.to_owned(),
            _ => format!("{{\"altered\":{}", Json::of(text).as_str()),
        };
        out += &format!(r#","seq":{seq},"prev":"{}","hash":"{}""#, hex(prev), hex(hash));
        if let Some(IntentLink { seq, time, prev, hash }) = intent {
            let (time, prev, hash) = (time.rfc3339(), hex(prev), hex(hash));
            out += &format!(r#","intent":{{"seq":{seq},"time":"{time}","prev":"{prev}","hash":"{hash}"}}"#);
        }
        out.push('}');
        Json::from_parts(out)
    }

    /// One line of an export without its end: JSON, or CSV.
    #[must_use]
    pub fn line(&self, csv: bool) -> String {
        if csv { self.csv() } else { self.json().as_str().to_owned() }
    }

    /// One line of CSV without its end, in the order of [`CSV_HEADER`].
    #[must_use]
    pub fn csv(&self) -> String {
        let entry = self.entry();
        let text = |field: fn(&Entry) -> &str| entry.as_ref().map(|entry| field(entry).to_owned()).unwrap_or_default();
        let some =
            |field: fn(&Entry) -> Option<&str>| entry.as_ref().and_then(field).map(str::to_owned).unwrap_or_default();
        let known = entry.as_ref();
        let backend = known.and_then(|e| e.backend.as_ref());
        let intent = self.0.intent.as_ref();
        let fields = [
            text(|e| &e.id),
            text(|e| &e.time),
            text(|e| &e.request_id),
            text(|e| &e.entrance),
            some(|e| e.key.as_deref()),
            some(|e| e.user.as_deref()),
            some(|e| e.agent.as_deref()),
            some(|e| e.server.as_deref()),
            some(|e| e.tool.as_deref()),
            text(|e| &e.decision),
            some(|e| e.outcome.as_deref()),
            known.map(|e| e.policies.join("; ")).unwrap_or_default(),
            text(|e| &e.policy_version),
            some(|e| e.reason.as_deref()),
            text(|e| &e.dlp_result),
            known.and_then(|e| e.latency_ms).map(|millis| millis.to_string()).unwrap_or_default(),
            some(|e| e.arguments_digest.as_deref()),
            known.and_then(|e| e.arguments.as_ref()).map(ToString::to_string).unwrap_or_default(),
            known.map(|e| e.notes.join("; ")).unwrap_or_default(),
            self.0.seq.to_string(),
            hex(&self.0.prev),
            hex(&self.0.hash),
            intent.map(|intent| intent.time.rfc3339()).unwrap_or_default(),
            intent.map(|intent| hex(&intent.hash)).unwrap_or_default(),
            known.and_then(Entry::kind).map(|kind| kind.as_str().to_owned()).unwrap_or_default(),
            text(|e| e.phase.as_str()),
            some(|e| e.code.as_deref()),
            some(|e| e.rule.as_deref()),
            some(|e| e.parent.as_deref()),
            some(|e| e.era.as_deref()),
            some(|e| e.trace_id.as_deref()),
            some(|e| e.span_id.as_deref()),
            backend.and_then(|sent| sent.transport.as_deref()).unwrap_or_default().to_owned(),
            backend.and_then(|sent| sent.era.as_deref()).unwrap_or_default().to_owned(),
            backend.map(Sent::ended).unwrap_or_default(),
            intent.map(|intent| intent.seq.to_string()).unwrap_or_default(),
            intent.map(|intent| hex(&intent.prev)).unwrap_or_default(),
        ];
        fields.iter().map(|field| quoted(field)).collect::<Vec<_>>().join(",")
    }
}

impl Serialize for Record {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.json().serialize(serializer)
    }
}

/// What a spreadsheet may take for the beginning of a formula, some in their wide forms.
const ARMED: [char; 8] = ['=', '+', '-', '@', '\u{ff1d}', '\u{ff0b}', '\u{ff0d}', '\u{ff20}'];

/// What separates cells somewhere: a spreadsheet that is not told which does it takes what follows for a beginning too.
const APART: [char; 4] = [';', '\t', '\n', '\r'];

/// Quotes a field where it needs it (RFC 4180), and disarms what a spreadsheet would take for a formula.
fn quoted(field: &str) -> String {
    let pieces = field.split_inclusive(APART).map(|piece| {
        let armed = piece.trim_start_matches([' ', '\u{a0}', '"']).starts_with(ARMED);
        format!("{}{piece}", if armed { "'" } else { "" })
    });
    let disarmed: String = pieces.collect();
    if disarmed != *field || field.contains([',', '"']) || field.contains(APART) {
        format!("\"{}\"", disarmed.replace('"', "\"\""))
    } else {
        disarmed
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::domain::audit::{Phase, Try};
    use crate::domain::clock::Moment;
    use crate::domain::tool::Kind;

    #[test]
    fn fields_are_quoted_and_formulas_disarmed() {
        assert_eq!(quoted("plain"), "plain");
        assert_eq!(quoted("a,\"b\""), "\"a,\"\"b\"\"\"");
        for formula in ["=1+1", "+1", "-1", "@SUM(A1)", " =1", "\u{ff1d}1"] {
            assert_eq!(quoted(formula), format!("\"'{formula}\""));
        }
        // Whatever separates cells, no cell begins with one.
        assert_eq!(quoted("x;=HYPERLINK(1)"), "\"x;'=HYPERLINK(1)\"");
        assert_eq!(quoted("a; =1\t+2\n-3"), "\"a;' =1\t'+2\n'-3\"");
        assert_eq!(quoted("a; b"), "\"a; b\"");
    }

    /// An entry with everything in it.
    fn full() -> Entry {
        let text = |name: &str| Some(name.to_owned().into());
        let attempt = |ended: &'static str| Try {
            at_ms: 0.5,
            latency_ms: Some(1.0),
            ended: ended.into(),
            again: text_of("retry"),
            span_id: Some("s".into()),
        };
        Entry {
            id: "evt_1".into(),
            phase: Phase::Outcome,
            time: "t".into(),
            request_id: "req_1".into(),
            entrance: "mcp".into(),
            key: text("key_1"),
            user: text("ada"),
            agent: text("a"),
            server: text("up"),
            tool: text("=tool()"),
            kind: Some(Kind::Tool),
            decision: "deny".into(),
            outcome: Some("refused".into()),
            policies: vec!["p".into(), "approval:apr_1".into()],
            policy_version: "v".into(),
            reason: text("no, \"never\""),
            dlp_result: "off".into(),
            latency_ms: Some(1.5),
            arguments_digest: Some("sha256:0".into()),
            arguments: Some(Arc::new(json!({"n": 1}))),
            notes: vec!["x".into(), "y".into()],
            code: Some("account_required".into()),
            rule: text("@provider:example"),
            parent: text("evt_0"),
            era: Some("modern".into()),
            trace_id: Some("0af7".into()),
            span_id: Some("b7ad".into()),
            backend: Some(Sent {
                transport: Some("http".into()),
                era: Some("legacy".into()),
                attempts: vec![attempt("unreachable"), attempt("ok")],
            }),
        }
    }

    fn text_of(word: &'static str) -> Option<std::borrow::Cow<'static, str>> {
        Some(word.into())
    }

    #[test]
    fn no_member_of_a_record_is_without_its_column() {
        let columns: Vec<&str> = CSV_HEADER.split(',').collect();
        let link = IntentLink { seq: 6, time: Moment(0), prev: vec![2], hash: vec![3] };
        let text = serde_json::to_string(&full()).unwrap();
        let record = AuditRecord { seq: 7, time: Moment(0), text, prev: vec![0], hash: vec![1], intent: Some(link) };
        let json = Record(record.clone()).json().value();
        for (name, value) in json.as_object().unwrap() {
            match value {
                serde_json::Value::Object(members) if name != "arguments" => {
                    for member in members.keys() {
                        assert!(columns.contains(&&*format!("{name}_{member}")), "{name}.{member}");
                    }
                }
                _ => assert!(columns.contains(&&**name), "{name}"),
            }
        }
        insta::assert_snapshot!(Record(record).csv(), @r#"evt_1,t,req_1,mcp,key_1,ada,a,up,"'=tool()",deny,refused,"p; approval:apr_1",v,"no, ""never""",off,1.5,sha256:0,"{""n"":1}","x; y",7,00,01,1970-01-01T00:00:00.000Z,03,tool,outcome,account_required,"'@provider:example",evt_0,modern,0af7,b7ad,http,legacy,"unreachable; ok",6,02"#);
    }

    #[test]
    fn an_entry_from_before_there_were_kinds_is_of_a_tool_and_keeps_its_text() {
        let text = concat!(
            r#"{"id":"evt_1","phase":"outcome","time":"t","request_id":"req_1","entrance":"mcp","key":null,"user":null,"#,
            r#""agent":null,"server":"a","tool":"b","decision":"allow","outcome":"answered","policies":[],"#,
            r#""policy_version":"","reason":null,"dlp_result":"off","latency_ms":null,"arguments_digest":null,"#,
            r#""arguments":null}"#
        );
        let entry: Entry = serde_json::from_str(text).unwrap();
        assert_eq!(entry.kind().map(Kind::as_str), Some("tool"));
        assert_eq!(serde_json::to_string(&entry).unwrap(), text);
        let record =
            AuditRecord { seq: 1, time: Moment(0), text: text.into(), prev: vec![], hash: vec![], intent: None };
        let columns = CSV_HEADER.split(',').count();
        let csv = Record(record).csv();
        let fields: Vec<&str> = csv.split(',').collect();
        assert_eq!((fields.len(), fields[24], fields[25]), (columns, "tool", "outcome"));
    }

    #[test]
    fn an_altered_text_is_still_exported_as_json() {
        let record = AuditRecord {
            seq: 7,
            time: Moment(0),
            text: "{\"x\":\"}".into(),
            prev: vec![0; 32],
            hash: vec![1],
            intent: None,
        };
        let value = Record(record.clone()).json().value();
        assert_eq!(value["altered"], "{\"x\":\"}");
        assert_eq!(value["seq"], 7);
        assert_eq!(Record(record).csv().split(',').count(), CSV_HEADER.split(',').count());
    }
}
