//! `git`: what its subcommands do, and the settings and options that make it run other programs.

use super::Effects;
use super::tree::Word;
use crate::policy::effects::vocabulary::Effect;

pub(super) fn effects(arguments: &[Word]) -> Effects {
    let mut rest = arguments.iter();
    let mut runs = Effects::NONE;
    let subcommand = loop {
        let Some(word) = rest.next() else { return runs };
        match word.text.as_str() {
            "-c" | "--config-env" => {
                if rest.next().is_some_and(|setting| !is_harmless(setting)) {
                    runs |= Effect::ShellUnparsed;
                }
            }
            option if option.starts_with("--config-env=") || option.starts_with("--exec-path=") => {
                runs |= Effect::ShellUnparsed;
            }
            "-C" | "--git-dir" | "--work-tree" | "--namespace" => {
                rest.next();
            }
            option if option.starts_with('-') => {}
            name => break name,
        }
    };
    let flags: Vec<&str> = rest.map(|word| word.text.as_str()).collect();
    if runs_commands(subcommand, &flags) {
        runs |= Effect::ShellUnparsed;
    }
    runs | of_subcommand(subcommand, &flags)
}

/// `rebase -x command`, `bisect run command`, `clone ext::command` and the like.
fn runs_commands(subcommand: &str, flags: &[&str]) -> bool {
    let begins = |prefix: &str| flags.iter().any(|flag| flag.starts_with(prefix));
    begins("ext::")
        || begins("--upload-pack")
        || begins("--receive-pack")
        || match subcommand {
            "rebase" => begins("-x") || begins("--exec"),
            "bisect" => begins("run"),
            "submodule" => begins("foreach"),
            "filter-branch" => true,
            "difftool" | "mergetool" => begins("-x") || begins("--extcmd"),
            "grep" => begins("-O") || begins("--open-files-in-pager"),
            "clone" => begins("-u") || begins("-c") || begins("--config"),
            _ => false,
        }
}

/// Settings that name no program. Any other may: pagers, editors, aliases, hooks, filters, helpers, transports.
const HARMLESS_SECTIONS: &[&str] = &[
    "user",
    "author",
    "committer",
    "color",
    "advice",
    "log",
    "status",
    "safe",
    "push",
    "pull",
    "fetch",
    "commit",
    "column",
    "i18n",
    "gc",
    "pack",
    "http",
    "feature",
    "transfer",
];

const HARMLESS: &[&str] = &[
    "core.quotepath",
    "core.autocrlf",
    "core.abbrev",
    "core.filemode",
    "core.longpaths",
    "core.ignorecase",
    "core.eol",
    "core.safecrlf",
    "core.symlinks",
    "core.compression",
    "core.preloadindex",
    "init.defaultbranch",
    "diff.renames",
    "diff.algorithm",
    "diff.context",
    "merge.conflictstyle",
    "merge.ff",
    "rebase.autostash",
    "tag.sort",
    "branch.sort",
];

fn is_harmless(setting: &Word) -> bool {
    let name = setting.text.split('=').next().unwrap_or_default().to_ascii_lowercase();
    let known = HARMLESS.contains(&name.as_str())
        || name.split_once('.').is_some_and(|(section, _)| HARMLESS_SECTIONS.contains(&section));
    // An expansion in the value does not change the name.
    let named = !setting.computed || setting.bare.is_none_or(|bare| bare > name.len()) && setting.text.contains('=');
    known && named
}

fn of_subcommand(subcommand: &str, flags: &[&str]) -> Effects {
    let has = |wanted: &[&str]| flags.iter().any(|flag| wanted.contains(flag));
    match subcommand {
        "clean" | "rm" | "filter-branch" | "filter-repo" | "gc" | "prune" => Effect::ShellDelete.into(),
        "reset" if has(&["--hard"]) => Effect::ShellDelete | Effect::ShellWrite,
        "checkout" | "restore" if has(&["--", ".", "-f", "--force"]) => Effect::ShellDelete | Effect::ShellWrite,
        "branch" | "tag" if has(&["-D", "-d", "--delete"]) => Effect::ShellDelete.into(),
        "stash" if has(&["drop", "clear"]) => Effect::ShellDelete.into(),
        "push" if has(&["--force", "-f", "--delete", "-d", "--mirror", "--force-with-lease"]) => {
            Effect::ShellNetwork | Effect::ShellDelete
        }
        "push" | "ls-remote" | "remote" | "send-email" => Effect::ShellNetwork.into(),
        "pull" | "fetch" | "clone" | "submodule" => Effect::ShellNetwork | Effect::ShellWrite,
        "add" | "commit" | "merge" | "checkout" | "switch" | "restore" | "reset" | "rebase" | "apply" | "am"
        | "init" | "cherry-pick" | "revert" | "mv" | "stash" | "worktree" | "config" => Effect::ShellWrite.into(),
        _ => Effects::NONE,
    }
}
