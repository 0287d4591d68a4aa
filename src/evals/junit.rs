//! A run as JUnit XML, which every CI system shows.

use std::time::Duration;

use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use super::run::Run;

/// The run as a document with one test suite.
#[must_use]
pub fn document(run: &Run) -> String {
    let mut suite = TestSuite::new(format!("{} ({})", run.name, run.evaluation_id));
    suite.set_time(Duration::from_millis(run.duration_ms));
    suite.extra.insert("timestamp".into(), run.started_at.as_str().into());
    let environment = run.environment.map_or("none", super::Environment::as_str);
    for (name, value) in [
        ("run", run.id.as_str()),
        ("score", super::score_value(run.score).to_string().as_str()),
        ("environment", environment),
        ("policy_version", &run.policy_version),
    ] {
        suite.add_property((name, value));
    }
    for case in &run.cases {
        let status = if case.passed {
            TestCaseStatus::success()
        } else {
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
            status.set_message(case.reasons.first().map_or("failed", String::as_str));
            status.set_description(case.reasons.join("\n"));
            status
        };
        let mut test = TestCase::new(case.name.as_str(), status);
        test.set_classname(case.tool.as_str()).set_time(Duration::from_millis(case.latency_ms));
        test.add_property(("audit_event_id", case.audit_event_id.as_str()));
        suite.add_test_case(test);
    }
    let mut report = Report::new("toolgate");
    report.set_time(Duration::from_millis(run.duration_ms)).add_test_suite(suite);
    // Text is all that it holds, and writing to memory does not fail.
    report.to_string().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::run::tests::{result, run};
    use super::*;

    #[test]
    fn a_run_is_a_document_that_ci_reads() {
        insta::assert_snapshot!(document(&run(vec![result("reads <a>", 1, true), result("b", 1, false)])), @r#"
<?xml version="1.0" encoding="UTF-8"?>
<testsuites name="toolgate" tests="2" skipped="0" failures="1" errors="0" time="1.500">
    <testsuite name="a suite (7)" tests="2" skipped="0" errors="0" failures="1" time="1.500" timestamp="2026-01-02T03:04:05.000Z">
        <properties>
            <property name="run" value="run_1"/>
            <property name="score" value="50"/>
            <property name="environment" value="dev"/>
            <property name="policy_version" value="p"/>
        </properties>
        <testcase name="reads &lt;a&gt;" classname="up:read" time="0.012">
            <properties>
                <property name="audit_event_id" value="evt_1"/>
            </properties>
        </testcase>
        <testcase name="b" classname="up:read" time="0.012">
            <properties>
                <property name="audit_event_id" value="evt_1"/>
            </properties>
            <failure message="expected 1, got 2 &lt;&amp;&gt;">expected 1, got 2 &lt;&amp;&gt;</failure>
        </testcase>
    </testsuite>
</testsuites>
"#);
    }

    #[test]
    fn control_characters_never_break_it() {
        let mut bad = result("b\u{1}\u{1b}[31m]]>", 1, false);
        bad.reasons = vec!["\u{0}\u{b}&<>\"'".into()];
        let report = Report::deserialize_from_str(&document(&run(vec![bad]))).unwrap();
        assert_eq!(report.failures, 1);
    }
}
