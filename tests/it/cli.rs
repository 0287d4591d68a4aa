//! The command line as scripts use it: output, exit codes, with a server and without one.

use std::sync::Arc;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{Client, Program, toolgate, toolgate_in};

async fn started() -> Program {
    let program = Program::start().await;
    program.ready().await;
    program
}

#[tokio::test]
async fn usage_errors_exit_1() {
    for arguments in [
        &["nonsense"][..],
        &["keys"],
        &["keys", "create"],
        &["keys", "create", "--name", "x"],
        &["keys", "create", "--name", "x", "--profile", "agent", "--expires", "soon"],
        &["keys", "list", "--nonsense"],
        &["audit", "export", "--format", "xml"],
        &["tools", "call", "github:list_repos", "--args", "{"],
        &["tools", "call", "github:list_repos", "--args", "[]"],
        &["policy", "simulate"],
        &["policy", "simulate", "x", "--agent", "a", "--key", "k"],
        &["serve", "--listen", "nowhere"],
        &["serve", "--log-format", "xml"],
        &["smoke"],
        &["stdio"],
        &["stdio", "--key", "k", "--url", "nonsense"],
    ] {
        let ended = toolgate(arguments).await;
        assert_eq!((ended.code, ended.out.as_str()), (Some(1), ""), "{arguments:?}: {ended:?}");
        assert!(!ended.err.is_empty(), "{arguments:?}");
    }
    for arguments in [&["--help"][..], &["keys", "--help"], &["--version"]] {
        let ended = toolgate(arguments).await;
        assert_eq!((ended.code, ended.err.as_str()), (Some(0), ""), "{arguments:?}");
    }
}

/// Keys are made, listed and revoked in the running server's own store, with effect at once.
#[tokio::test]
async fn keys_with_a_server_running() {
    let program = started().await;
    let create = [
        "keys",
        "create",
        "--name",
        "ci",
        "--profile",
        "agent",
        "--roles",
        "writer,reader",
        "--agent",
        "bot",
        "--expires",
        "30d",
        "--json",
    ];
    let made = program.run(&create).await;
    assert_eq!(made.code, Some(0), "{made:?}");
    let made = made.json();
    assert_eq!((made["roles"].clone(), made["agent_id"].clone()), (json!(["writer", "reader"]), json!("bot")));
    let client = Client::new(program.address, made["key"].as_str());
    assert_eq!(client.rpc("ping", &json!({})).await.status, 200, "at once");
    let plain = program.run(&["keys", "create", "--name", "plain", "--profile", "mcp_readonly"]).await;
    assert!(
        plain.out.trim_end().starts_with("inv_live_") && plain.out.lines().count() == 1,
        "stdout is the key alone: {plain:?}"
    );
    let listed = program.run(&["keys", "list", "--json"]).await;
    assert!(!listed.out.contains(made["key"].as_str().unwrap()));
    assert_eq!(listed.json()["keys"].as_array().unwrap().len(), 5, "three of the first start and two");
    let table = program.run(&["keys", "list"]).await.out;
    assert!(table.contains("PROFILE") && table.contains("mcp_readonly"), "{table}");
    let id = made["id"].as_str().unwrap();
    assert_eq!(program.run(&["keys", "revoke", id]).await.code, Some(0));
    assert_eq!(client.rpc("ping", &json!({})).await.status, 401, "at once");
    let twice = program.run(&["keys", "revoke", id, "--json"]).await;
    assert_eq!(twice.code, Some(1));
    assert!(twice.err.contains("there is no live key"), "{twice:?}");
    let nope = program.run(&["keys", "create", "--name", "x", "--profile", "nope"]).await;
    assert_eq!(nope.code, Some(1));
    assert!(nope.err.contains("known are admin, agent, mcp_readonly, operator"), "{nope:?}");
    program.stop().await;
}

#[tokio::test]
async fn keys_without_a_server() {
    let folder = Arc::new(TempDir::new().unwrap());
    let run = async |arguments: &[&str]| toolgate_in(folder.path(), arguments, &[]).await;
    let made = run(&["keys", "create", "--name", "offline", "--profile", "admin", "--json"]).await.json();
    assert_eq!(run(&["keys", "list", "--json"]).await.json()["keys"].as_array().unwrap().len(), 1);
    let verified = run(&["audit", "verify", "--json"]).await;
    assert_eq!((verified.code, verified.json()["holds"].clone()), (Some(0), json!(true)));
    let program = Program::start_in(Arc::clone(&folder), &[]).await;
    let client = Client::new(program.address, made["key"].as_str());
    assert_eq!(client.get("/v1/beta/users/x/keys").send().await.status, 200);
    program.stop().await;
    let revoked = run(&["keys", "revoke", made["id"].as_str().unwrap(), "--json"]).await;
    assert_eq!(revoked.json()["revoked"], made["id"]);
}

#[tokio::test]
async fn servers_and_tools() {
    let program = started().await;
    let servers = program.run(&["servers", "list", "--json"]).await.json()["servers"].clone();
    let names: Vec<_> =
        servers.as_array().unwrap().iter().map(|server| (server["name"].clone(), server["state"].clone())).collect();
    assert_eq!(names, [(json!("database"), json!("ready")), (json!("github"), json!("ready"))]);
    let table = program.run(&["servers", "test", "github"]).await;
    assert!(table.code == Some(0) && table.out.contains("ready") && !table.out.contains("database"), "{table:?}");
    let nowhere = program.run(&["servers", "test", "nowhere"]).await;
    assert_eq!(nowhere.code, Some(1));
    let tools = program.run(&["tools", "list", "--json"]).await.json()["tools"].clone();
    let ids: Vec<_> = tools.as_array().unwrap().iter().map(|tool| tool["id"].as_str().unwrap().to_owned()).collect();
    for id in ["github:list_repos", "database:execute", "toolgate:policy.simulate"] {
        assert!(ids.iter().any(|other| other == id), "{id}: {ids:?}");
    }
    let found = program.run(&["tools", "search", "list", "repositories"]).await;
    assert_eq!(found.code, Some(1), "one query, in quotes: {found:?}");
    let found = program.run(&["tools", "search", "list repositories"]).await;
    assert!(found.code == Some(0) && found.out.contains("github/list_repos"), "{found:?}");
    for (id, args, code, says) in [
        ("github:list_repos", r#"{"limit":1}"#, 0, "demo/project-a"),
        ("github.get_repo", r#"{"repo":"demo/project-a"}"#, 0, "demo/project-a"),
        ("github:create_issue", r#"{"repo":"demo/project-a","title":"t"}"#, 0, ""),
        ("database:execute", r#"{"sql":"drop table customers"}"#, 2, "block-sql-drop"),
        ("database:execute", r#"{"sql":"delete from tickets"}"#, 3, "destructive-needs-approval"),
        ("github:list_repos", r#"{"limit":"x"}"#, 1, "/limit"),
        ("github:get_repo", r#"{"repo":"demo/nowhere"}"#, 1, ""),
        ("github:nope", "{}", 1, ""),
    ] {
        let ended = program.run(&["tools", "call", id, "--args", args]).await;
        assert_eq!(ended.code, Some(code), "{id} {args}: {ended:?}");
        assert!(format!("{}{}", ended.out, ended.err).contains(says), "{id} {args}: {ended:?}");
        let as_json = program.run(&["tools", "call", id, "--args", args, "--json"]).await;
        assert!(as_json.code == Some(code) && as_json.json().get("governance").is_some(), "{as_json:?}");
    }
    program.stop().await;
}

#[tokio::test]
async fn policy_check_and_simulate() {
    let program = started().await;
    let check = program.run(&["policy", "check", "--json"]).await;
    assert_eq!((check.code, check.json()["policies"].clone()), (Some(0), json!(4)));
    let check = program.run(&["policy", "check"]).await;
    assert!(check.out.contains("4 policies checked against") && check.out.contains("0 faults"), "{check:?}");
    let drop = r#"{"sql":"drop table customers"}"#;
    for (arguments, code) in [
        (vec!["github:list_repos"], 0),
        (vec!["github.create_issue"], 0),
        (vec!["database:execute", "--args", drop], 2),
        (vec!["database.execute", "--args", r#"{"sql":"delete from tickets"}"#], 3),
        (vec!["github:create_issue", "--agent", "somebody"], 2),
        (vec!["nowhere:nothing"], 2),
        (vec!["github:list_repos", "--key", "key_nope"], 1),
        (vec!["github:list_repos", "--args", "3"], 1),
    ] {
        let ended = program.run(&[&["policy", "simulate"], arguments.as_slice()].concat()).await;
        assert_eq!(ended.code, Some(code), "{arguments:?}: {ended:?}");
        if code != 1 {
            let report = program.run(&[&["policy", "simulate", "--json"], arguments.as_slice()].concat()).await;
            assert!(report.code == Some(code) && report.json()["decision"].is_string(), "{report:?}");
        }
    }
    let keys = program.run(&["keys", "list", "--json"]).await.json()["keys"].clone();
    let readonly = keys.as_array().unwrap().iter().find(|key| key["name"] == "mcp_readonly").unwrap()["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let judged = program.run(&["policy", "simulate", "github:list_repos", "--key", &readonly, "--json"]).await;
    assert_eq!((judged.code, judged.json()["policies"][0]["id"].clone()), (Some(2), json!("profile:mcp_readonly")));
    program.stop().await;
}

/// A policy that does not fit the schema of the live tools.
#[tokio::test]
async fn policy_check_names_file_and_line() {
    let folder = TempDir::new().unwrap();
    std::fs::create_dir(folder.path().join("policies")).unwrap();
    let policy = "// a comment\n@id(\"bad\")\nforbid (principal, action == Toolgate::Action::\"github:list_repos\", resource)\nwhen { context.input.limt > 3 };\n";
    std::fs::write(folder.path().join("policies/bad.cedar"), policy).unwrap();
    let check = toolgate_in(folder.path(), &["policy", "check"], &[]).await;
    assert_eq!(check.code, Some(1), "{check:?}");
    assert!(check.out.contains("bad.cedar:4"), "{check:?}");
    let as_json = toolgate_in(folder.path(), &["policy", "check", "--json"], &[]).await;
    assert_eq!((as_json.code, as_json.json()["report"]["faults"][0]["policy"].clone()), (Some(1), json!("bad")));
}

#[tokio::test]
async fn the_audit_log_is_read_with_and_without_a_server() {
    let program = started().await;
    let client = program.client("agent");
    let answer = client.invoke("github", "create_issue", r#"{"repo":"demo/project-a","title":"secret-title"}"#).await;
    let id = answer.header("toolgate-audit-id").unwrap().to_owned();
    client.invoke("database", "execute", r#"{"sql":"drop table customers"}"#).await;
    let folder = program.folder();
    let look = async || {
        let run = async |arguments: &[&str]| toolgate_in(folder.path(), arguments, &[]).await;
        let tail = run(&["audit", "tail", "-n", "50", "--json"]).await.json()["records"].clone();
        assert!(tail.as_array().unwrap().iter().any(|record| record["id"] == id), "{tail}");
        let shown = run(&["audit", "show", &id]).await.json();
        assert_eq!((shown["tool"].clone(), shown["outcome"].clone()), (json!("create_issue"), json!("answered")));
        assert!(!shown.to_string().contains("secret-title"), "redacted");
        assert_eq!(run(&["audit", "show", "evt_nope"]).await.code, Some(1));
        let export = run(&["audit", "export", "--format", "jsonl"]).await;
        let records: Vec<Value> = export.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert!(records.iter().any(|record| record["decision"] == "deny" && record["policies"][0] == "block-sql-drop"));
        let csv = run(&["audit", "export", "--format", "csv"]).await.out;
        assert_eq!(csv.lines().count(), records.len() + 1);
        assert!(csv.starts_with("id,time,request_id,entrance,key,user,agent,server,tool,decision,outcome"));
        let verified = run(&["audit", "verify"]).await;
        assert!(verified.code == Some(0) && verified.out.starts_with("the chain holds"), "{verified:?}");
        let table = run(&["audit", "tail"]).await.out;
        assert!(table.contains("create_issue") && table.contains("DECISION"), "{table}");
    };
    look().await;
    program.stop().await;
    look().await;
    // One turned bit, and the chain does not hold.
    let database = std::fs::read_dir(folder.path().join(".toolgate"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|e| e == "db"))
        .unwrap();
    let mut bytes = std::fs::read(&database).unwrap();
    let at = bytes.windows(21).position(|window| window == b"\"tool\":\"create_issue\"").unwrap() + 8;
    bytes[at] ^= 1;
    std::fs::write(&database, bytes).unwrap();
    let broken = toolgate_in(folder.path(), &["audit", "verify", "--json"], &[]).await;
    assert_eq!((broken.code, broken.json()["holds"].clone()), (Some(1), json!(false)), "{broken:?}");
}

#[tokio::test]
async fn smoke_and_doctor() {
    let program = started().await;
    let url = format!("http://{}", program.address);
    let key = program.keys().into_iter().find(|(name, _)| name == "mcp_readonly").unwrap().1;
    let before = program.run(&["audit", "export"]).await.out.lines().count();
    let smoke = program.run(&["smoke", "--url", &url, "--key", &key, "--json"]).await;
    assert_eq!((smoke.code, smoke.json()["ok"].clone()), (Some(0), json!(true)), "{smoke:?}");
    let steps: Vec<_> = smoke.json()["steps"].as_array().unwrap().iter().map(|step| step["step"].clone()).collect();
    assert_eq!(steps, ["GET /v1/mcp", "initialize", "tools/list", "tools/call invoke.policy.simulate"]);
    let after = program.run(&["audit", "export"]).await.out.lines().count();
    assert_eq!(after, before + 1, "the simulation is recorded, and nothing else was called");
    let environment = [("INVOKE_BASE_URL", url.as_str()), ("INVOKE_API_KEY", key.as_str())];
    let from_environment = toolgate_in(program.path("").as_path(), &["smoke"], &environment).await;
    assert!(from_environment.code == Some(0) && !from_environment.out.contains(&key), "{from_environment:?}");
    let wrong = program.run(&["smoke", "--url", &url, "--key", "inv_live_wrong"]).await;
    assert_eq!(wrong.code, Some(1));
    assert!(wrong.out.contains("FAIL"), "{wrong:?}");
    let doctor = program.run(&["doctor", "--json"]).await;
    assert_eq!((doctor.code, doctor.json()["ok"].clone()), (Some(0), json!(true)), "{doctor:?}");
    program.stop().await;
    let nobody = toolgate(&["smoke", "--url", "http://127.0.0.1:9", "--key", "x"]).await;
    assert_eq!(nobody.code, Some(1));
}

#[tokio::test]
async fn the_doctor_finds_what_is_wrong() {
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("toolgate.toml"), "[servers.gone]\ncommand = \"/nowhere/at/all\"\n").unwrap();
    let doctor = toolgate_in(folder.path(), &["doctor", "--json"], &[]).await;
    assert_eq!((doctor.code, doctor.json()["ok"].clone()), (Some(1), json!(false)), "{doctor:?}");
    let sick: Vec<Value> =
        doctor.json()["checks"].as_array().unwrap().iter().filter(|check| check["ok"] == false).cloned().collect();
    assert!(sick.len() == 1 && sick[0].to_string().contains("gone") && sick[0]["hint"].is_string(), "{sick:?}");
    std::fs::write(folder.path().join("toolgate.toml"), "[servers.gone]\n").unwrap();
    let doctor = toolgate_in(folder.path(), &["doctor"], &[]).await;
    assert!(
        doctor.code == Some(1) && doctor.out.contains("toolgate.toml:1") && doctor.out.contains("hint"),
        "{doctor:?}"
    );
}

#[tokio::test]
async fn other_programs_servers_are_imported() {
    let folder = TempDir::new().unwrap();
    let run = async |arguments: &[&str]| toolgate_in(folder.path(), arguments, &[]).await;
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    let foreign = json!({"mcpServers": {
        "files": {"command": "npx", "args": ["-y", "server-filesystem", "/tmp/a b"], "env": {"A": "1"}},
        "remote": {"type": "http", "url": "https://mcp.example/mcp", "headers": {"Authorization": "Bearer x"}},
        "off": {"command": "x", "disabled": true},
    }});
    write("claude_desktop_config.json", &foreign.to_string());
    write(
        "mcp.json",
        &json!({"servers": {"code": {"type": "stdio", "command": "uvx", "args": ["server"]}}}).to_string(),
    );
    // Whoever writes by hand does not always end the last line.
    write("toolgate.toml", "[gateway]\nsurface_budget = 100");
    let dry = run(&["servers", "import", "claude_desktop_config.json", "--dry-run"]).await;
    assert_eq!(dry.code, Some(0), "{dry:?}");
    assert_eq!(
        std::fs::read_to_string(folder.path().join("toolgate.toml")).unwrap().lines().count(),
        2,
        "nothing was written"
    );
    assert_eq!(run(&["servers", "import", "claude_desktop_config.json", "--json"]).await.code, Some(0));
    assert_eq!(run(&["servers", "import", "mcp.json"]).await.code, Some(0));
    assert_eq!(run(&["servers", "import", "mcp.json"]).await.code, Some(0), "twice is once");
    let settings = toolgate::config::file::read(
        "toolgate.toml",
        &std::fs::read_to_string(folder.path().join("toolgate.toml")).unwrap(),
        &|_| None,
    )
    .unwrap();
    let names: Vec<_> = settings.servers.keys().map(ToString::to_string).collect();
    assert_eq!(names, ["code", "files", "remote"]);
    assert_eq!(settings.gateway.surface_budget, 100);
    for (name, text) in [("broken.json", "{"), ("other.json", "{\"a\":1}")] {
        write(name, text);
        let refused = run(&["servers", "import", name]).await;
        assert_eq!(refused.code, Some(1), "{name}");
        assert!(refused.err.contains(name), "{refused:?}");
    }
}

/// Whatever names the address wrongly, it is said of what.
#[tokio::test]
async fn a_wrong_address_is_named() {
    let folder = tempfile::TempDir::new().unwrap();
    for (arguments, environment) in [(&[][..], &[("TOOLGATE_LISTEN", "8080")][..]), (&["--listen", "8080"], &[])] {
        let ended = toolgate_in(folder.path(), arguments, environment).await;
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(ended.err.contains("'8080'") && ended.err.contains("--listen"), "{}", ended.err);
    }
}

/// Without a server too the configuration counts; where it cannot be used, that is said.
#[tokio::test]
async fn records_are_read_with_the_configuration_or_with_a_word() {
    let program = Program::start().await;
    let folder = program.folder();
    program.stop().await;
    let tail = async || toolgate_in(folder.path(), &["audit", "tail", "--json"], &[]).await;
    std::fs::write(folder.path().join("toolgate.toml"), "[audit]\ndurability = \"power\"\n").unwrap();
    let read = tail().await;
    assert_eq!((read.code, read.err.as_str()), (Some(0), ""), "{read:?}");
    std::fs::write(folder.path().join("toolgate.toml"), "[servers.up]\nurl = \"${NOT_SET_HERE}\"\n").unwrap();
    let read = tail().await;
    assert_eq!(read.code, Some(0), "{read:?}");
    assert!(read.err.starts_with("going by what ships") && read.err.contains("NOT_SET_HERE"), "{}", read.err);
    assert!(!read.json()["records"].as_array().unwrap().is_empty());
}

/// What ships can be written down and changed by whoever has the program alone.
#[tokio::test]
async fn policies_that_ship_are_printed() {
    let folder = tempfile::TempDir::new().unwrap();
    let run = async |arguments: &[&str]| toolgate_in(folder.path(), arguments, &[]).await;
    let list = run(&["policy", "list"]).await;
    assert!(list.code == Some(0) && list.out.contains("block-sql-drop") && list.out.contains("forbid"), "{list:?}");
    let one = run(&["policy", "show", "block-sql-drop"]).await;
    assert!(one.out.starts_with("@id(\"block-sql-drop\")") && one.out.contains("sql.truncate"), "{one:?}");
    let nothing = run(&["policy", "show", "nothing"]).await;
    assert!(nothing.code == Some(1) && nothing.err.contains("`toolgate policy list`"), "{nothing:?}");
    let all = run(&["policy", "show"]).await;
    std::fs::create_dir(folder.path().join("policies")).unwrap();
    std::fs::write(folder.path().join("policies/shipped.cedar"), &all.out).unwrap();
    let ids = async || {
        let list = run(&["policy", "list", "--json"]).await.json();
        list["policies"].as_array().unwrap().iter().map(|policy| policy["id"].clone()).collect::<Vec<_>>()
    };
    let before = list.out.lines().count() - 1;
    assert_eq!(ids().await.len(), before, "the same policies, from a file");
}
