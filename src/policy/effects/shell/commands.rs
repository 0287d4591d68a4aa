//! What a command does, by its name and the arguments that matter.

use super::Effects;
use super::tree::Word;
use super::{git, sed};
use crate::policy::effects::vocabulary::Effect;

const DELETES: &[&str] = &[
    "rm",
    "rmdir",
    "unlink",
    "shred",
    "srm",
    "wipe",
    "wipefs",
    "fdisk",
    "sfdisk",
    "parted",
    "blkdiscard",
    "trash",
    "rimraf",
    "del",
    "erase",
    "rd",
    "deltree",
    "format",
    "remove-item",
    "clear-content",
    "ri",
];

const WRITES: &[&str] = &[
    "tee",
    "cp",
    "mv",
    "install",
    "ln",
    "link",
    "mkdir",
    "touch",
    "truncate",
    "sponge",
    "patch",
    "unzip",
    "rsync",
    "dd",
    "copy",
    "move",
    "xcopy",
    "robocopy",
    "ren",
    "set-content",
    "add-content",
    "out-file",
    "new-item",
    "copy-item",
    "move-item",
    "rename",
    "split",
    "csplit",
    "mktemp",
    "mkfifo",
    "mknod",
    "ex",
    "ed",
];

const NETWORK: &[&str] = &[
    "curl",
    "wget",
    "wget2",
    "nc",
    "ncat",
    "netcat",
    "socat",
    "telnet",
    "ssh",
    "scp",
    "sftp",
    "rsync",
    "ftp",
    "tftp",
    "lftp",
    "http",
    "https",
    "httpie",
    "xh",
    "aria2c",
    "axel",
    "lynx",
    "w3m",
    "links",
    "mosh",
    "ping",
    "ping6",
    "traceroute",
    "dig",
    "nslookup",
    "host",
    "drill",
    "whois",
    "nmap",
    "psql",
    "mysql",
    "mongo",
    "mongosh",
    "redis-cli",
    "gh",
    "glab",
    "aws",
    "gcloud",
    "gsutil",
    "az",
    "kubectl",
    "helm",
    "rclone",
    "s3cmd",
    "sendmail",
    "mail",
    "mutt",
    "pip",
    "pip3",
    "npm",
    "npx",
    "pnpm",
    "yarn",
    "uvx",
    "gem",
    "cargo",
    "invoke-webrequest",
    "iwr",
    "invoke-restmethod",
    "irm",
    "start-bitstransfer",
    "bitsadmin",
    "certutil",
];

const PRIVILEGE: &[&str] =
    &["sudo", "su", "doas", "pkexec", "runas", "runuser", "gosu", "su-exec", "setpriv", "nsenter", "machinectl"];

const SYSTEM: &[&str] = &[
    "kill",
    "pkill",
    "killall",
    "shutdown",
    "reboot",
    "halt",
    "poweroff",
    "init",
    "telinit",
    "systemctl",
    "service",
    "launchctl",
    "chmod",
    "chown",
    "chgrp",
    "chattr",
    "setfacl",
    "mount",
    "umount",
    "swapoff",
    "swapon",
    "crontab",
    "at",
    "batch",
    "useradd",
    "userdel",
    "usermod",
    "groupadd",
    "adduser",
    "deluser",
    "passwd",
    "chpasswd",
    "visudo",
    "iptables",
    "ip6tables",
    "nft",
    "ufw",
    "sysctl",
    "modprobe",
    "insmod",
    "rmmod",
    "apt",
    "apt-get",
    "dpkg",
    "yum",
    "dnf",
    "rpm",
    "pacman",
    "apk",
    "zypper",
    "brew",
    "snap",
    "setenforce",
    "hostnamectl",
    "timedatectl",
    "stop-process",
    "taskkill",
    "sc",
    "reg",
    "net",
    "schtasks",
    "netsh",
    "icacls",
    "takeown",
];

/// Known, and nothing more than run.
const PLAIN: &[&str] = &[
    "ls", "cd", "pwd", "echo", "printf", "cat", "head", "tail", "grep", "rg", "wc", "sort", "uniq", "cut", "tr",
    "date", "whoami", "id", "uname", "ps", "df", "du", "stat", "test", "true", "false", "export", "set", "unset",
    "read", "sleep", "which", "make", "diff", "jq", "basename", "dirname", "exit", "return", "source", "tar", "gzip",
    "awk", "sed", "find", "git", "xargs", "docker", "podman",
];

const SHELLS: &[&str] = &["sh", "bash", "rbash", "zsh", "dash", "ksh", "mksh", "ash", "fish", "csh", "tcsh"];

const INTERPRETERS: &[&str] = &[
    "python",
    "perl",
    "ruby",
    "node",
    "nodejs",
    "php",
    "lua",
    "luajit",
    "deno",
    "bun",
    "osascript",
    "tclsh",
    "rscript",
    "julia",
    "groovy",
    "powershell",
    "pwsh",
];

/// The last part of a command's path, in lower case, without `.exe`.
pub(super) fn base_name(command: &str) -> String {
    let name = command.rsplit(['/', '\\']).next().unwrap_or(command).to_lowercase();
    name.strip_suffix(".exe").map(str::to_owned).unwrap_or(name)
}

pub(super) fn is_shell(name: &str) -> bool {
    SHELLS.contains(&name)
}

/// Programs of other languages, with or without a version (`python3.12`).
pub(super) fn is_interpreter(name: &str) -> bool {
    INTERPRETERS.contains(&name.trim_end_matches(|c: char| c.is_ascii_digit() || matches!(c, '.' | '-')))
}

/// What the command does, apart from what it runs in its turn; nothing where it is not known.
pub(super) fn effects(name: &str, arguments: &[Word]) -> Option<Effects> {
    let mut effects = Effects::NONE;
    for (names, effect) in [
        (DELETES, Effect::ShellDelete),
        (WRITES, Effect::ShellWrite),
        (NETWORK, Effect::ShellNetwork),
        (PRIVILEGE, Effect::ShellPrivilege),
        (SYSTEM, Effect::ShellSystem),
    ] {
        if names.contains(&name) {
            effects |= effect;
        }
    }
    if name == "mkfs" || name.starts_with("mkfs.") || name == "mke2fs" || name == "mkswap" {
        effects |= Effect::ShellDelete;
    }
    effects |= by_arguments(name, arguments);
    let known = !effects.is_empty() || PLAIN.contains(&name) || is_interpreter(name);
    known.then_some(effects)
}

fn by_arguments(name: &str, arguments: &[Word]) -> Effects {
    let has = |wanted: &[&str]| arguments.iter().any(|word| wanted.contains(&word.text.as_str()));
    let begins = |prefix: &str| arguments.iter().any(|word| word.text.starts_with(prefix));
    // `-i`, `-ni`, `-i.bak`: a letter among short options.
    let short = |letter: char| {
        arguments.iter().any(|word| {
            let options = word.text.strip_prefix('-').unwrap_or("");
            !options.starts_with('-') && options.split('.').next().unwrap_or("").contains(letter)
        })
    };
    match name {
        "find" => of_find(arguments),
        "git" => git::effects(arguments),
        "dd" if begins("of=/dev/") => Effect::ShellDelete.into(),
        "rsync" if begins("--del") || begins("--remove-source") => Effect::ShellDelete.into(),
        "mv" if has(&["/dev/null"]) => Effect::ShellDelete.into(),
        "truncate" => Effect::ShellDelete.into(),
        "sed" | "gsed" => {
            let in_place = if short('i') || begins("--in-place") { Effect::ShellWrite.into() } else { Effects::NONE };
            in_place | sed::effects(arguments)
        }
        "vim" | "vi" | "nvim" | "gvim" | "view" | "vimdiff" | "rvim" | "ex" | "emacs" => of_editor(arguments),
        "perl" | "ruby" if short('i') || begins("--in-place") => Effect::ShellWrite.into(),
        "sort" if short('o') || begins("--output") => Effect::ShellWrite.into(),
        "curl" if short('o') || short('O') || begins("--output") || begins("--remote-name") => {
            Effect::ShellWrite.into()
        }
        "wget" | "aria2c" => Effect::ShellWrite.into(),
        "tar" => of_tar(arguments),
        "awk" | "gawk" | "mawk" | "nawk"
            if arguments.iter().any(|word| ["system", "|", "getline"].iter().any(|it| word.text.contains(it))) =>
        {
            Effect::ShellCode.into()
        }
        "crontab" if short('r') => Effect::ShellDelete.into(),
        "docker" | "podman" | "kubectl" if has(&["rm", "rmi", "prune", "delete"]) => Effect::ShellDelete.into(),
        "docker" | "podman" if has(&["pull", "push", "login"]) => Effect::ShellNetwork.into(),
        "aws" | "gsutil" | "rclone" | "s3cmd" | "gcloud" | "az" | "helm"
            if has(&["rm", "rb", "delete", "purge", "uninstall", "del"]) || begins("delete-") =>
        {
            Effect::ShellDelete.into()
        }
        "openssl" if has(&["s_client", "s_server"]) => Effect::ShellNetwork.into(),
        _ => Effects::NONE,
    }
}

/// `vim -c ':!rm x'`, `vim +'!rm x'`, `emacs --eval '(…)'`: programs in the editor's own language.
fn of_editor(arguments: &[Word]) -> Effects {
    let is_program = |word: &Word| {
        let text = word.text.as_str();
        // `+12` and `+/word` only choose a line.
        let runs = text
            .strip_prefix('+')
            .is_some_and(|rest| !rest.starts_with('/') && !rest.bytes().all(|byte| byte.is_ascii_digit()));
        runs || text.starts_with("-c") || ["--cmd", "--eval", "-eval", "--execute", "-S"].contains(&text)
    };
    if arguments.iter().any(is_program) { Effect::ShellCode.into() } else { Effects::NONE }
}

fn of_find(arguments: &[Word]) -> Effects {
    let mut effects = Effects::NONE;
    for word in arguments {
        match word.text.as_str() {
            "-delete" => effects |= Effect::ShellDelete,
            "-fprint" | "-fprint0" | "-fprintf" | "-fls" => effects |= Effect::ShellWrite,
            // `{-delete,}` and `$X` may turn into any action.
            text if word.computed && word.bare != Some(0) && text.starts_with('{') => effects |= Effect::ShellUnparsed,
            _ => {}
        }
    }
    effects
}

fn of_tar(arguments: &[Word]) -> Effects {
    let mut effects = Effects::NONE;
    // Programs that tar runs.
    let programs = ["--to-command", "--checkpoint-action", "--use-compress-program", "--rsh-command", "-I"];
    if arguments.iter().any(|word| programs.iter().any(|program| word.text.starts_with(program))) {
        effects |= Effect::ShellUnparsed;
    }
    let mode = arguments.first().map(|word| word.text.trim_start_matches('-')).unwrap_or_default();
    if mode.contains(['x', 'c', 'r', 'u']) {
        effects |= Effect::ShellWrite;
    }
    effects
}
