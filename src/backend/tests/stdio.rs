//! Backends that are child processes: how they speak, fail and end.

use std::time::Duration;

use super::peer::{backends, call, eventually, shell, tool};
use crate::backend::{SendOptions, ServerState};
use crate::domain::json::Json;
use crate::domain::outcome::UpstreamFault;

/// A legacy server in shell: `$1` is what it does with `tools/call`; `$id` is the request's id there.
const SERVER: &str = r#"
trap 'echo bye >&2' EXIT
while read -r line; do
  id=${line#*\"id\":}; id=${id%%,*}
  case "$line" in
    *server/discover*) echo "{\"jsonrpc\":\"2.0\",\"id\":$id,\"error\":{\"code\":-32601,\"message\":\"no\"}}" ;;
    *initialized*) ;;
    *initialize*) echo "{\"jsonrpc\":\"2.0\",\"id\":$id,\"result\":{\"protocolVersion\":\"2025-06-18\",\"capabilities\":{\"tools\":{}},\"serverInfo\":{\"name\":\"sh\"}}}" ;;
    *tools/list*) echo "{\"jsonrpc\":\"2.0\",\"id\":$id,\"result\":{\"tools\":[{\"name\":\"read\",\"annotations\":{\"readOnlyHint\":true}},{\"name\":\"write\"}]}}" ;;
    *tools/call*) eval "$1" ;;
  esac
done
"#;

const ANSWER: &str = r#"echo "{\"jsonrpc\":\"2.0\",\"id\":$id,\"result\":{\"content\":[], \"x\":1.50e2}}""#;

#[tokio::test]
async fn a_child_is_greeted_listed_and_called() {
    let backends = backends(shell(SERVER, &[ANSWER])).await;
    let answer = call(&backends, "read").await.unwrap();
    assert_eq!(answer.result.as_str(), r#"{"content":[], "x":1.50e2}"#);
    let status = &backends.status()[0];
    assert_eq!(
        (status.era, status.version.as_deref(), status.transport),
        (Some("legacy"), Some("2025-06-18"), "stdio")
    );
    backends.stop(Duration::from_secs(1)).await;
    assert_eq!(backends.status()[0].stderr, ["bye"]);
    assert_eq!(call(&backends, "read").await.unwrap_err().fault, UpstreamFault::Down);
}

#[tokio::test]
async fn answers_may_come_in_any_order() {
    let script = r#"if [ -z "$held" ]; then held=$id; else
        echo "{\"jsonrpc\":\"2.0\",\"id\":$id,\"result\":{\"n\":$id}}"; echo "{\"jsonrpc\":\"2.0\",\"id\":$held,\"result\":{\"n\":$held}}"; held=; fi"#;
    let backends = backends(shell(SERVER, &[script])).await;
    let tool = tool(&backends, "read");
    let calls = (0..10).map(|_| backends.dispatch(&tool, None, SendOptions::default()));
    let mut answers: Vec<u64> = futures_util::future::join_all(calls)
        .await
        .into_iter()
        .map(|answer| answer.unwrap().result.value()["n"].as_u64().unwrap())
        .collect();
    answers.dedup();
    assert_eq!(answers.len(), 10);
}

#[tokio::test]
async fn noise_and_a_flood_on_stderr_do_no_harm() {
    let script = format!(
        "echo hello; echo '[]'; echo; i=0; while [ $i -lt 2000 ]; do echo \"flood $i xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\" >&2; i=$((i+1)); done; {ANSWER}"
    );
    let backends = backends(shell(SERVER, &[&script])).await;
    call(&backends, "write").await.unwrap();
    assert!(backends.status()[0].stderr.len() <= 50);
}

#[tokio::test]
async fn a_crash_fails_the_calls_in_flight_and_the_child_is_started_again() {
    let mark = tempfile::tempdir().unwrap();
    let file = mark.path().join("crashed");
    let script =
        format!("if [ -e '{0}' ]; then {ANSWER}; else touch '{0}'; echo dying >&2; exit 3; fi", file.display());
    let backends = backends(shell(SERVER, &[&script])).await;
    let error = call(&backends, "write").await.unwrap_err();
    assert_eq!((error.fault, error.retryable), (UpstreamFault::Down, false));
    eventually(&backends, |backends| backends.status()[0].state == ServerState::Down).await;
    let status = &backends.status()[0];
    assert!(status.last_error.as_ref().unwrap().contains("exit status: 3"), "{:?}", status.last_error);
    assert!(status.stale && status.tools == 2, "its tools stay known");
    eventually(&backends, |backends| backends.status()[0].state == ServerState::Ready).await;
    call(&backends, "write").await.unwrap();
}

#[tokio::test]
async fn a_line_without_end_kills_the_child() {
    let backends = backends(shell(SERVER, &["head -c 20000000 /dev/zero | tr '\\0' x"])).await;
    let error = call(&backends, "write").await.unwrap_err();
    assert_eq!(error.fault, UpstreamFault::Down);
    eventually(&backends, |backends| backends.status()[0].state == ServerState::Down).await;
    assert!(backends.status()[0].last_error.as_ref().unwrap().contains("longer than"));
}

#[tokio::test]
async fn an_answer_that_is_no_response_fails_its_call_at_once() {
    for answer in [
        r#"{\"id\":$id,\"result\":{}}"#,
        r#"{\"jsonrpc\":\"2.0\",\"id\":$id,\"result\":{},\"error\":{}}"#,
        r#"{\"jsonrpc\":\"2.0\",\"id\":$id,\"result\":[]}"#,
    ] {
        let backends = backends(shell(SERVER, &[&format!("echo \"{answer}\"")])).await;
        assert_eq!(call(&backends, "write").await.unwrap_err().fault, UpstreamFault::Garbled, "{answer}");
    }
}

#[tokio::test]
async fn a_call_that_nobody_waits_for_is_cancelled() {
    let mark = tempfile::tempdir().unwrap();
    let file = mark.path().join("log");
    let script = format!("read -r line; echo \"$line\" > '{}.part'; mv '{0}.part' '{0}'", file.display());
    let backends = backends(shell(SERVER, &[&script])).await;
    let options = SendOptions { timeout: Some(Duration::from_millis(50)), ..SendOptions::default() };
    let error = backends.dispatch(&tool(&backends, "write"), None, options).await.unwrap_err();
    assert_eq!(error.fault, UpstreamFault::Timeout);
    backends.stop(Duration::from_secs(1)).await;
    let told = std::fs::read_to_string(file).unwrap();
    assert!(told.contains("notifications/cancelled"), "{told}");
}

#[tokio::test]
async fn requests_of_the_child_are_answered() {
    let script = r#"asked=$id; echo '{"jsonrpc":"2.0","id":"p","method":"ping"}'; read -r pong
        echo '{"jsonrpc":"2.0","id":5,"method":"roots/list"}'; read -r no
        echo "{\"jsonrpc\":\"2.0\",\"id\":$asked,\"result\":{\"pong\":$pong,\"no\":$no}}""#;
    let backends = backends(shell(SERVER, &[script])).await;
    let said = call(&backends, "write").await.unwrap().result.value();
    assert_eq!(said["pong"]["result"], serde_json::json!({}));
    assert_eq!(said["no"]["error"]["code"], -32601);
}

#[tokio::test]
async fn a_changed_list_is_listed_again() {
    let script =
        format!("{ANSWER}; SECOND=1; echo '{{\"jsonrpc\":\"2.0\",\"method\":\"notifications/tools/list_changed\"}}'");
    let server = SERVER.replace("{\\\"name\\\":\\\"write\\\"}]", "{\\\"name\\\":\\\"write$SECOND\\\"}]");
    let backends = backends(shell(&server, &[&script])).await;
    call(&backends, "write").await.unwrap();
    eventually(&backends, |backends| backends.catalog().get("s", "write1").is_some()).await;
    assert!(backends.catalog().get("s", "write").is_none());
}

#[tokio::test]
async fn a_child_inherits_little_and_runs_without_a_shell_of_ours() {
    let script =
        r#"echo "{\"jsonrpc\":\"2.0\",\"id\":$id,\"result\":{\"env\":\"$(env | cut -d= -f1 | tr '\n' ' ')\"}}""#;
    let mut settings = shell(SERVER, &[script]);
    if let crate::config::Transport::Stdio { env, .. } = &mut settings.transport {
        env.insert("OWN".into(), crate::domain::secret::Secret::new("1"));
    }
    let backends = backends(settings).await;
    let answer = call(&backends, "read").await.unwrap().result.value();
    let names = answer["env"].as_str().unwrap();
    assert!(names.contains("OWN") && names.contains("PATH") && !names.contains("SECRET_OF_OTHERS"), "{names}");
}

/// The process whose number stands in this file, once it does.
async fn process_in(file: &std::path::Path) -> rustix::process::Pid {
    let read = async {
        loop {
            if let Ok(id) = std::fs::read_to_string(file).unwrap_or_default().trim().parse() {
                return rustix::process::Pid::from_raw(id).unwrap();
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), read).await.expect("a process writes its number down")
}

/// Whether a process ends. It has been killed; how soon the kernel takes it away is not ours to say.
async fn ends(pid: rustix::process::Pid) -> bool {
    let place = format!("/proc/{}/stat", pid.as_raw_nonzero());
    let gone = async {
        while std::fs::read_to_string(&place).is_ok_and(|state| !state.contains(") Z ")) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), gone).await.is_ok()
}

#[tokio::test]
async fn the_whole_process_group_ends() {
    let mark = tempfile::tempdir().unwrap();
    let file = mark.path().join("pid");
    let script = format!("trap '' TERM; sleep 300 & echo $! > '{}'; {ANSWER}", file.display());
    let backends = backends(shell(SERVER, &[&script])).await;
    call(&backends, "read").await.unwrap();
    let pid = process_in(&file).await;
    assert!(rustix::process::test_kill_process(pid).is_ok());
    backends.stop(Duration::from_millis(100)).await;
    assert!(ends(pid).await, "the grandchild lives");
}

/// Who leaves the group does not leave the gateway: sessions of their own, orphans, and those without a mark.
#[tokio::test]
async fn what_left_the_process_group_ends_too() {
    for crashes in [false, true] {
        let mark = tempfile::tempdir().unwrap();
        let file = |name: &str| mark.path().join(name);
        let session = format!("setsid sleep 300 & echo $! > '{}'", file("session").display());
        let orphan = format!("(setsid sh -c 'sleep 300 & echo $! > {}' &)", file("orphan").display());
        let bare = format!("setsid env -i sleep 300 & echo $! > '{}'", file("bare").display());
        // Of a child that is gone already only the mark tells.
        let end = if crashes { "case \"$line\" in *write*) exit 3 ;; esac" } else { &bare };
        let script = format!("{end}; {session}; {orphan}; {ANSWER}");
        let backends = backends(shell(SERVER, &[&script])).await;
        call(&backends, "read").await.unwrap();
        let mut left = vec![process_in(&file("session")).await, process_in(&file("orphan")).await];
        if crashes {
            assert!(call(&backends, "write").await.is_err());
        } else {
            left.push(process_in(&file("bare")).await);
            backends.stop(Duration::from_millis(100)).await;
        }
        for pid in left {
            assert!(ends(pid).await, "{} (crashes: {crashes})", pid.as_raw_nonzero());
        }
        backends.stop(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn a_command_that_does_not_exist_is_told() {
    let mut settings = shell("", &[]);
    settings.transport = crate::config::Transport::Stdio {
        command: "/nowhere/at/all".into(),
        args: Vec::new(),
        env: std::collections::BTreeMap::new(),
        cwd: None,
    };
    let backends = backends(settings).await;
    let status = &backends.status()[0];
    assert_eq!(status.state, ServerState::Down);
    assert!(status.last_error.as_ref().unwrap().contains("cannot start `/nowhere/at/all`"));
}

#[tokio::test]
async fn a_child_that_ends_at_an_unknown_method_is_taken_for_legacy() {
    let server = SERVER.replace("*server/discover*)", "*server/discover*) exit 1; ");
    let backends = backends(shell(&server, &[ANSWER])).await;
    call(&backends, "read").await.unwrap();
}

#[tokio::test]
async fn arguments_reach_the_child_as_they_are() {
    let script = r#"args=${line#*\"arguments\":}; args=${args%\}\}}; echo "{\"jsonrpc\":\"2.0\",\"id\":$id,\"result\":{\"got\":$args}}""#;
    let backends = backends(shell(SERVER, &[script])).await;
    let arguments = Json::from_parts(r#"{"n":1.50e2,"a":[ 1 ]}"#.into());
    let answer = backends.dispatch(&tool(&backends, "write"), Some(&arguments), SendOptions::default()).await.unwrap();
    assert_eq!(answer.result.as_str(), r#"{"got":{"n":1.50e2,"a":[ 1 ]}}"#);
}
