//! Floor 9: the command line. One file a command; tables for people, `--json` for scripts.
//!
//! Exit codes: 0 done, 1 anything wrong (usage errors too), 2 denied (found, of `dlp scan`; failed, of `readiness`; worse, of
//! `eval run`), 3 approval needed.

mod approvals;
mod ask;
mod audit;
mod brain;
pub mod demo;
mod dlp;
mod doctor;
mod eval;
mod executions;
mod import;
mod keys;
mod login;
mod policy;
mod preflight;
mod print;
mod providers;
mod remote;
mod serve;
mod servers;
mod smoke;
mod stats;
mod stdio;
mod tools;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand};

use crate::gateway::sources::{Place, Sources};

/// What a command ended with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    Well,
    Wrong,
    Denied,
    /// A run of a suite that is worse than it may be.
    Worse,
    ApprovalNeeded,
}

impl From<Ended> for ExitCode {
    fn from(ended: Ended) -> Self {
        Self::from(match ended {
            Ended::Well => 0,
            Ended::Wrong => 1,
            Ended::Denied | Ended::Worse => 2,
            Ended::ApprovalNeeded => 3,
        })
    }
}

/// One governed MCP endpoint in front of every tool.
#[derive(Debug, Parser)]
#[command(name = "toolgate", version, about, max_term_width = 100)]
struct Arguments {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Option<Command>,
}

/// Where things are; the same for every command.
#[derive(Debug, Clone, Args)]
pub(crate) struct Common {
    /// Configuration file [default: toolgate.toml, where there is one]
    #[arg(long, env = "TOOLGATE_CONFIG", global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Key profiles [default: profiles.toml, or what ships]
    #[arg(long, env = "TOOLGATE_PROFILES", global = true, value_name = "FILE")]
    profiles: Option<PathBuf>,
    /// Folder of Cedar policies [default: policies, or what ships]
    #[arg(long, env = "TOOLGATE_POLICIES", global = true, value_name = "FOLDER")]
    policies: Option<PathBuf>,
    /// Where the store, its secrets and the command socket are
    #[arg(long, env = "TOOLGATE_DATA_DIR", global = true, value_name = "FOLDER", default_value = ".toolgate")]
    data_dir: PathBuf,
    /// How the log on stderr looks: text or json; TOOLGATE_LOG filters it
    #[arg(long, global = true, value_name = "FORMAT", default_value = "text", value_parser = ["text", "json"])]
    log_format: String,
    /// Answer in JSON
    #[arg(long, global = true)]
    json: bool,
}

impl Common {
    pub(crate) fn sources(&self) -> Sources {
        let program = std::env::current_exe().map_or_else(|_| "toolgate".into(), |path| path.display().to_string());
        Sources {
            config: Place::of(self.config.clone(), "toolgate.toml"),
            profiles: Place::of(self.profiles.clone(), "profiles.toml"),
            policies: Place::of(self.policies.clone(), "policies"),
            program,
            lookup: environment,
            environment: std::env::vars_os().collect(),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the command line hands the environment to the configuration")]
fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the gateway (what `toolgate` alone does)
    Serve {
        /// Address to listen on; port 0 picks one
        #[arg(long, env = "TOOLGATE_LISTEN", default_value = "127.0.0.1:8080", value_name = "ADDR:PORT")]
        listen: SocketAddr,
    },
    /// Make, list and revoke keys
    #[command(subcommand)]
    Keys(keys::Command),
    /// List and test backend servers, import them from other programs
    #[command(subcommand)]
    Servers(servers::Command),
    /// List, search and call tools
    #[command(subcommand)]
    Tools(tools::Command),
    /// Check policies, and ask what they would decide
    #[command(subcommand)]
    Policy(policy::Command),
    /// Ask whether calls would pass now; nothing is called. Exits 0 all would, 2 denied, 3 approval needed, 1 else
    Preflight(preflight::Options),
    /// Check how well the gateway is governed. Exits 2 where a check fails
    Readiness,
    /// List, show and decide calls that wait for a person
    #[command(subcommand)]
    Approvals(approvals::Command),
    /// Accounts that users connect: list the providers, change what seals the credentials
    #[command(subcommand)]
    Providers(providers::Command),
    /// Read, export and verify the audit log
    #[command(subcommand)]
    Audit(audit::Command),
    /// Look back at calls that were made
    #[command(subcommand)]
    Executions(executions::Command),
    /// Sum up what was called: counts, errors, refusals, latencies
    Stats(stats::Options),
    /// Run suites of test cases for tools, and compare their scores
    #[command(subcommand)]
    Eval(eval::Command),
    /// Look for secrets and personal data in texts, as the gateway does
    #[command(subcommand)]
    Dlp(dlp::Command),
    /// Import what the company knows, and ask for it
    #[command(subcommand)]
    Brain(brain::Command),
    /// Ask a running gateway whether it works; changes nothing
    Smoke(remote::Place),
    /// An MCP server on standard input and output that carries everything to a running gateway
    Stdio(stdio::Options),
    /// Check configuration, store and every backend, with a hint for each fault
    Doctor,
    /// A demo MCP server on standard input and output: github or database
    #[command(hide = true)]
    DemoServer {
        name: String,
        /// Which release of it to play
        #[arg(long, default_value_t = 1)]
        release: u8,
    },
}

/// Reads the command line; one that names no command is that of `serve`.
fn parse(given: &[OsString]) -> Result<Arguments, clap::Error> {
    let serve = || {
        let (program, rest) = given.split_at(given.len().min(1));
        Arguments::try_parse_from([program, &["serve".into()], rest].concat())
    };
    match Arguments::try_parse_from(given) {
        Ok(Arguments { command: None, .. }) => serve(),
        Err(error) if error.kind() == ErrorKind::UnknownArgument => {
            serve().map_err(|of_serve| if of_serve.kind() == ErrorKind::UnknownArgument { error } else { of_serve })
        }
        read => read,
    }
}

/// Runs the program.
#[must_use]
pub fn main() -> ExitCode {
    let arguments = match parse(&std::env::args_os().collect::<Vec<_>>()) {
        Ok(arguments) => arguments,
        Err(error) => {
            let failed = error.use_stderr();
            print::usage(&error);
            return if failed { Ended::Wrong.into() } else { Ended::Well.into() };
        }
    };
    // Commands that stay say what they do.
    let stays = matches!(arguments.command, Some(Command::Serve { .. } | Command::Stdio(_)));
    print::logging(
        &arguments.common.log_format,
        if stays { "info" } else { "error" },
        environment("TOOLGATE_LOG").as_deref(),
    );
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return print::failed(&error.to_string()).into(),
    };
    let ended = runtime.block_on(run(arguments)).unwrap_or_else(|error| print::failed(&format!("{error:#}")));
    // A reader of standard input may still be blocked in the demo server; nothing else is left running.
    runtime.shutdown_background();
    ended.into()
}

async fn run(arguments: Arguments) -> anyhow::Result<Ended> {
    let Arguments { common, command } = arguments;
    match command {
        None => anyhow::bail!("no command"),
        Some(Command::Serve { listen }) => serve::run(&common, listen).await,
        Some(Command::Keys(command)) => keys::run(&common, command).await,
        Some(Command::Servers(command)) => servers::run(&common, command).await,
        Some(Command::Tools(command)) => tools::run(&common, command).await,
        Some(Command::Policy(command)) => policy::run(&common, command).await,
        Some(Command::Preflight(options)) => preflight::run(&common, options).await,
        Some(Command::Readiness) => preflight::readiness(&common).await,
        Some(Command::Approvals(command)) => approvals::run(&common, command).await,
        Some(Command::Providers(command)) => providers::run(&common, command).await,
        Some(Command::Audit(command)) => audit::run(&common, command).await,
        Some(Command::Executions(command)) => executions::run(&common, command).await,
        Some(Command::Stats(options)) => stats::run(&common, options).await,
        Some(Command::Eval(command)) => eval::run(&common, command).await,
        Some(Command::Brain(command)) => brain::run(&common, command).await,
        Some(Command::Smoke(options)) => smoke::run(&common, &options).await,
        Some(Command::Stdio(options)) => stdio::run(&common, options).await,
        Some(Command::Dlp(command)) => dlp::run(&common, command),
        Some(Command::Doctor) => doctor::run(&common).await,
        Some(Command::DemoServer { name, release }) => demo::run(&name, release).await.map(|()| Ended::Well),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Arguments, clap::Error> {
        parse(&line.split(' ').map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn no_command_is_serve() {
        for line in ["toolgate", "toolgate --json", "toolgate --data-dir x --listen 127.0.0.1:8080", "toolgate serve"] {
            let arguments = parsed(line).unwrap();
            let Some(Command::Serve { listen }) = arguments.command else { panic!("{line}: {arguments:?}") };
            assert_eq!(listen.port(), 8080);
        }
        assert!(matches!(parsed("toolgate keys list").unwrap().command, Some(Command::Keys(_))));
        let unknown = parsed("toolgate --lisen x").unwrap_err().to_string();
        assert!(unknown.contains("--lisen") && !unknown.contains("serve"), "{unknown}");
        assert!(parsed("toolgate --listen 127.0.0.1:1 keys list").is_err());
    }
}
