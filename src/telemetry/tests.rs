//! What the exporter does when nobody takes what it has.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;

use super::*;
use crate::domain::clock::{ManualClock, Moment};

fn call() -> Ended {
    Ended {
        context: Context::fresh(true),
        parent: None,
        provenance: Provenance::default(),
        entrance: Entrance::Mcp,
        kind: Kind::Tool,
        tool: None,
        began: 1,
        ended: 2,
        error: None,
        decision: "allow",
        policy: "p".into(),
        event: EventId::from("evt_1"),
        noted: Noted::default(),
    }
}

#[tokio::test]
async fn what_finds_no_place_is_dropped_and_counted() {
    const MANY: usize = 40_000;
    // It takes connections, and answers nothing.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    let settings = TelemetrySettings { endpoint, headers: Vec::new(), sampling: 1.0, service: "t".into() };
    let clock = Arc::new(ManualClock::at(Moment(1_800_000_000_000)));
    let telemetry = Telemetry::start(&settings, clock).unwrap();
    for n in 0..MANY {
        telemetry.ended(call());
        if n % 64 == 0 {
            tokio::task::yield_now().await;
        }
    }
    let least = MANY - WAITING - KEPT - BATCH;
    assert!(telemetry.dropped() >= least as u64, "{}", telemetry.dropped());
    let stopping = telemetry.stop(Duration::from_millis(50));
    tokio::time::timeout(Duration::from_secs(5), stopping).await.unwrap();
}

#[tokio::test]
async fn a_trace_is_sent_as_whoever_began_it_chose() {
    let endpoint = "http://127.0.0.1:9".parse().unwrap();
    let settings = TelemetrySettings { endpoint, headers: Vec::new(), sampling: 0.5, service: "t".into() };
    let telemetry = Telemetry::start(&settings, Arc::new(ManualClock::default())).unwrap();
    for sampled in [true, false] {
        let brought = Context::fresh(sampled);
        let own = telemetry.begin(Some(brought));
        assert_eq!((own.trace, own.sampled), (brought.trace, sampled));
        assert_ne!(own.span, brought.span);
    }
    let sampled = (0..1000).filter(|_| telemetry.begin(None).sampled).count();
    assert!((350..650).contains(&sampled), "{sampled}");
    telemetry.stop(Duration::from_secs(5)).await;
}
