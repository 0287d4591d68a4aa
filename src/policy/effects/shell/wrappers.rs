//! Commands that run other commands: where the inner one begins.

use std::borrow::Cow;

use super::joined;
use super::tree::Word;

/// What a command runs in its turn.
pub(super) enum Inner<'a> {
    Nothing,
    Command(&'a [Word]),
    Commands(Vec<Vec<Word>>),
    /// It cannot be told which of these words is the command: each may be.
    AnyOf(&'a [Word]),
    /// A text to parse; nothing where it is computed.
    Text(Option<Cow<'a, str>>),
    /// What is on standard input.
    Input,
}

/// Where a shell takes its script from.
pub(super) enum Source<'a> {
    Text(&'a Word),
    File(&'a Word),
    Input,
    Unknown,
}

/// How the options before an inner command look.
struct Wrapper {
    names: &'static [&'static str],
    /// Short options that take a value.
    short: &'static str,
    /// Long options that take a value as the next word.
    long: &'static [&'static str],
    /// Words before the command: a duration, a lock file.
    operands: usize,
}

const WRAPPERS: &[Wrapper] = &[
    Wrapper {
        names: &["sudo", "doas"],
        short: "CDghpRrtTUu",
        long: &["user", "group", "host", "prompt", "chdir", "close-from", "role", "type", "chroot", "other-user"],
        operands: 0,
    },
    Wrapper { names: &["env"], short: "uC", long: &["unset", "chdir"], operands: 0 },
    Wrapper {
        names: &[
            "nohup",
            "setsid",
            "command",
            "builtin",
            "busybox",
            "toybox",
            "fakeroot",
            "proxychains",
            "proxychains4",
            "torsocks",
            "unbuffer",
            "pkexec",
            "catchsegv",
            "gtimeout",
            "firejail",
            "xvfb-run",
            "systemd-run",
            "noglob",
            "nocorrect",
            "unshare",
            "setarch",
            "setpriv",
            "npx",
            "uvx",
        ],
        short: "",
        long: &["user", "setenv", "property", "unit", "working-directory", "description"],
        operands: 0,
    },
    Wrapper { names: &["exec"], short: "a", long: &[], operands: 0 },
    Wrapper { names: &["nice"], short: "n", long: &["adjustment"], operands: 0 },
    Wrapper { names: &["ionice"], short: "cnp", long: &["class", "classdata"], operands: 0 },
    Wrapper { names: &["time"], short: "fo", long: &["format", "output"], operands: 0 },
    Wrapper { names: &["timeout"], short: "ks", long: &["kill-after", "signal"], operands: 1 },
    Wrapper { names: &["stdbuf"], short: "ioe", long: &["input", "output", "error"], operands: 0 },
    Wrapper { names: &["chroot", "gosu", "su-exec", "taskset", "chrt"], short: "", long: &["userspec"], operands: 1 },
    Wrapper { names: &["nsenter"], short: "tSG", long: &["target", "setuid", "setgid"], operands: 0 },
    Wrapper { names: &["strace", "ltrace"], short: "aeEIoOpPsSuX", long: &[], operands: 0 },
    Wrapper { names: &["watch"], short: "n", long: &["interval"], operands: 0 },
    Wrapper {
        names: &["xargs"],
        short: "aEIdLnPs",
        long: &["arg-file", "delimiter", "max-args", "max-procs", "max-lines", "max-chars", "replace"],
        operands: 0,
    },
];

pub(super) fn inner<'a>(name: &str, arguments: &'a [Word]) -> Inner<'a> {
    match name {
        "eval" => Inner::Text(joined(arguments)),
        "alias" => Inner::Text(joined_values(arguments)),
        "trap" => arguments.first().map_or(Inner::Nothing, |word| Inner::Text(one(word))),
        "." | "source" => match arguments.first() {
            Some(word) if word.text == "/dev/stdin" => Inner::Input,
            Some(word) if word.computed && !word.scripts.is_empty() => Inner::Text(None),
            _ => Inner::Nothing,
        },
        "at" | "batch" => Inner::Input,
        "su" | "runuser" | "script" | "flock" if option_value(arguments, "-c", "--command").is_some() => {
            option_value(arguments, "-c", "--command").map_or(Inner::Nothing, |word| Inner::Text(one(word)))
        }
        "flock" => Inner::Command(after_options(arguments, "wE", &["timeout", "conflict-exit-code"], 1).0),
        "env" if option_value(arguments, "-S", "--split-string").is_some() => split_string(arguments),
        "su" | "runuser" | "script" | "machinectl" | "runas" => Inner::Nothing,
        "find" => Inner::Commands(find_actions(arguments)),
        "ssh" => {
            let (rest, _) = after_options(arguments, "bcDEeFIiJLlmOopQRSWw", &[], 1);
            let local = arguments.iter().any(|word| word.text.to_ascii_lowercase().contains("command="));
            if local || !rest.is_empty() { Inner::Text(joined(rest).filter(|_| !local)) } else { Inner::Nothing }
        }
        "xargs" => Inner::Commands(vec![xargs(arguments)]),
        "docker" | "podman" | "nerdctl" | "kubectl" | "lxc" | "parallel" | "cmd" => Inner::AnyOf(arguments),
        _ => wrapped(name, arguments),
    }
}

fn wrapped<'a>(name: &str, arguments: &'a [Word]) -> Inner<'a> {
    let Some(wrapper) = WRAPPERS.iter().find(|wrapper| wrapper.names.contains(&name)) else { return Inner::Nothing };
    let (rest, unsure) = after_options(arguments, wrapper.short, wrapper.long, wrapper.operands);
    if unsure {
        return Inner::AnyOf(arguments);
    }
    let skipped = rest.iter().take_while(|word| is_setting(word)).count();
    Inner::Command(rest.get(skipped..).unwrap_or_default())
}

/// `NAME=value` before the command: `env` and `sudo` read it after quotes are gone.
fn is_setting(word: &Word) -> bool {
    word.is_assignment() || (!word.computed && word.text.contains('='))
}

/// The words after the options and `operands` more, and whether an option is one whose shape is not known.
fn after_options<'a>(arguments: &'a [Word], short: &str, long: &[&str], operands: usize) -> (&'a [Word], bool) {
    let (mut at, mut unsure) = (0, false);
    while let Some(option) = arguments.get(at).filter(|word| word.text.len() > 1 && word.text.starts_with('-')) {
        at += 1;
        if option.text == "--" {
            break;
        }
        if let Some(name) = option.text.strip_prefix("--") {
            let known = long.contains(&name);
            at += usize::from(known);
            // `--flag word`: the word may be its value or the command.
            unsure |= !known && !name.contains('=') && !short.is_empty();
        } else if option.text.chars().last().is_some_and(|last| short.contains(last)) && takes_next(&option.text, short)
        {
            at += 1;
        }
        unsure |= option.computed;
    }
    (arguments.get(at + operands..).unwrap_or_default(), unsure)
}

/// `-n 5` takes the next word, `-n5` does not: the first letter with a value ends the cluster.
fn takes_next(option: &str, short: &str) -> bool {
    let letters = option.trim_start_matches('-');
    letters.find(|letter| short.contains(letter)).is_some_and(|at| at + 1 == letters.len())
}

fn option_value<'a>(arguments: &'a [Word], short: &str, long: &str) -> Option<&'a Word> {
    let at = arguments.iter().position(|word| word.text == short || word.text == long)?;
    arguments.get(at + 1)
}

fn one(word: &Word) -> Option<Cow<'_, str>> {
    (!word.computed).then_some(Cow::Borrowed(word.text.as_str()))
}

/// `alias name=command`: the commands.
fn joined_values(arguments: &[Word]) -> Option<Cow<'_, str>> {
    let values = arguments.iter().filter_map(|word| word.text.split_once('=').map(|(_, value)| value));
    let known = !arguments.iter().any(|word| word.computed);
    known.then(|| Cow::Owned(values.collect::<Vec<_>>().join("\n")))
}

/// `env -S 'rm -rf' x`.
fn split_string(arguments: &[Word]) -> Inner<'_> {
    let at = arguments.iter().position(|word| matches!(word.text.as_str(), "-S" | "--split-string")).unwrap_or(0);
    Inner::Text(joined(arguments.get(at + 1..).unwrap_or_default()))
}

/// Each `-exec … ;`.
fn find_actions(arguments: &[Word]) -> Vec<Vec<Word>> {
    let mut actions = Vec::new();
    let mut rest = arguments.iter();
    while let Some(word) = rest.next() {
        if matches!(word.text.as_str(), "-exec" | "-execdir" | "-ok" | "-okdir") {
            let action = rest.by_ref().take_while(|word| !matches!(word.text.as_str(), ";" | "+"));
            actions.push(action.cloned().map(|word| replaced(word, "{}")).collect());
        }
    }
    actions
}

/// What `xargs` runs: its words, then words that come from standard input.
fn xargs(arguments: &[Word]) -> Vec<Word> {
    let Inner::Command(words) = wrapped("xargs", arguments) else {
        return vec![Word { computed: true, ..Word::default() }];
    };
    let marker = option_value(arguments, "-I", "--replace").map_or("{}", |word| word.text.as_str());
    let marker = if marker.is_empty() { "{}" } else { marker };
    let mut command: Vec<Word> = words.iter().cloned().map(|word| replaced(word, marker)).collect();
    if command.is_empty() {
        command.push(Word { text: String::from("echo"), ..Word::default() });
    }
    command.push(Word { computed: true, ..Word::default() });
    command
}

/// A word in which something is put at run time is computed.
fn replaced(mut word: Word, marker: &str) -> Word {
    word.computed |= word.text.contains(marker);
    word
}

/// Where a shell that is called with `arguments` takes its script from.
pub(super) fn shell(arguments: &[Word]) -> Source<'_> {
    let (mut takes_text, mut reads_input) = (false, false);
    let mut rest = arguments.iter();
    while let Some(word) = rest.next() {
        let text = word.text.as_str();
        if takes_text && !text.starts_with(['-', '+']) {
            return Source::Text(word);
        }
        match text {
            "--" | "-" => {
                return match rest.next() {
                    Some(word) if takes_text => Source::Text(word),
                    Some(word) if !reads_input => Source::File(word),
                    _ => Source::Input,
                };
            }
            "--rcfile" | "--init-file" | "-o" | "+o" | "-O" | "+O" => {
                rest.next();
            }
            _ if word.computed && word.scripts.is_empty() => return Source::Unknown,
            _ if text.starts_with("--") => takes_text |= text == "--command",
            _ if text.starts_with(['-', '+']) => {
                takes_text |= text.contains('c');
                reads_input |= text.contains('s');
            }
            _ if reads_input => return Source::Input,
            _ => return Source::File(word),
        }
    }
    if takes_text { Source::Unknown } else { Source::Input }
}
