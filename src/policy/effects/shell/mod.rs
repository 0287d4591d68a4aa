//! Shell: which commands a text would run, through quoting, substitution, pipes, `sudo`, `xargs`, `sh -c` and the like.

mod commands;
mod environment;
mod git;
mod parse;
mod sed;
mod tree;
mod wrappers;

#[cfg(test)]
mod tests;

use std::borrow::Cow;

use super::effort::Effort;
use super::vocabulary::{Effect, Effects};

use commands::base_name;
use tree::{Parsed, Redirect, Script, Stage, Word};
use wrappers::Inner;

const MAX_BYTES: usize = 64 * 1024;
/// Commands inside each other: `sudo env nice sh -c "…"`.
const MAX_DEPTH: usize = 32;
/// The first so many words of `docker exec …` in which a command is looked for.
const FURTHEST: usize = 24;
/// Commands, and words of commands, looked at in one text through all readings.
const MAX_STEPS: usize = 100_000;
/// Bytes that are read, and steps that are taken, in the time in which a parser reads a token of SQL.
const BYTES_A_TOKEN: usize = 2;
const STEPS_A_TOKEN: usize = 2;

/// What a text that is certainly a command would do.
pub(super) fn certain(text: &str, effort: &mut Effort) -> Effects {
    read(text, effort).effects
}

/// What a text would do if it is a shell script: it parses and names a command that is known.
pub(super) fn possible(text: &str, effort: &mut Effort) -> Effects {
    let interpreter = text.strip_prefix("#!").map(|rest| rest.lines().next().unwrap_or(""));
    let is_shell = |line: &str| line.split([' ', '/', '\t']).any(|part| commands::is_shell(part.trim()));
    match interpreter {
        Some(line) if is_shell(line) => certain(text, effort),
        Some(_) => Effects::NONE,
        None => {
            let reading = read(text, effort);
            match reading {
                // Nobody has told what it is.
                _ if effort.is_spent() => Effect::ShellUnparsed.into(),
                Run { known: true, broken: false, effects, .. } => effects,
                _ => Effects::NONE,
            }
        }
    }
}

fn read(text: &str, effort: &mut Effort) -> Run {
    let mut run = Run { effects: Effects::NONE, steps: 0, depth: 0, known: false, broken: false };
    if text.trim().is_empty() {
        return run;
    }
    if !effort.affords(text.len() / BYTES_A_TOKEN) {
        run.broken = true;
        run.effects = Effect::ShellUnparsed.into();
        return run;
    }
    let most = effort.left().saturating_mul(STEPS_A_TOKEN).min(MAX_STEPS);
    run.steps = most;
    run.effects = run.text(text);
    // Where they ran out before the text's own bound, the effort did.
    let ran_out = usize::from(run.steps == 0 && most < MAX_STEPS);
    let _left = effort.affords((most - run.steps).div_ceil(STEPS_A_TOKEN) + ran_out);
    run
}

/// Goes through commands and says what they do.
struct Run {
    effects: Effects,
    steps: usize,
    depth: usize,
    /// Some command is in our tables.
    known: bool,
    /// Some text does not parse.
    broken: bool,
}

/// What stands ready on a command's standard input.
#[derive(Clone, Copy)]
enum Input<'a> {
    /// The terminal, a file, nothing.
    Other,
    /// The output of another command.
    Pipe,
    /// Text in the script itself.
    Text(&'a Word),
}

impl Run {
    fn text(&mut self, text: &str) -> Effects {
        let parsed = if text.len() > MAX_BYTES { None } else { parse::parse(text).ok() };
        let Some(Parsed { script, documents }) = parsed else {
            self.broken = true;
            return Effect::ShellUnparsed.into();
        };
        self.deeper(|run| {
            let bodies = documents.iter().fold(Effects::NONE, |all, body| all | run.substitutions(body, &documents));
            bodies | run.script(&script, &documents, Input::Other)
        })
    }

    fn deeper(&mut self, look: impl FnOnce(&mut Self) -> Effects) -> Effects {
        if self.depth == MAX_DEPTH || self.steps == 0 {
            return Effect::ShellUnparsed.into();
        }
        self.depth += 1;
        self.steps -= 1;
        let effects = look(self);
        self.depth -= 1;
        effects
    }

    fn script(&mut self, script: &Script, documents: &[Word], input: Input<'_>) -> Effects {
        script.pipelines.iter().fold(Effects::NONE, |all, stages| all | self.pipeline(stages, documents, input))
    }

    fn pipeline(&mut self, stages: &[Stage], documents: &[Word], input: Input<'_>) -> Effects {
        let mut all = Effects::NONE;
        for (at, stage) in stages.iter().enumerate() {
            let input = if at > 0 { Input::Pipe } else { input };
            all |= self.deeper(|run| run.stage(stage, documents, input));
        }
        all
    }

    fn stage<'a>(&mut self, stage: &'a Stage, documents: &'a [Word], mut input: Input<'a>) -> Effects {
        let mut all = Effects::NONE;
        for word in stage.words.iter().chain(&stage.data) {
            all |= self.substitutions(word, documents);
        }
        for redirect in &stage.redirects {
            all |= self.redirect(redirect, documents);
            match redirect {
                Redirect::Text(word) => input = Input::Text(word),
                Redirect::Document(number) => input = documents.get(*number).map_or(input, Input::Text),
                // `bash < <(curl …)`
                Redirect::Read(word) if !word.scripts.is_empty() => input = Input::Pipe,
                Redirect::Read(_) => input = Input::Other,
                Redirect::Write(_) | Redirect::Duplicate(_) => {}
            }
        }
        if let Some(group) = &stage.group {
            all |= self.script(group, documents, input);
        }
        let command = stage.words.iter().position(|word| !word.is_assignment()).unwrap_or(stage.words.len());
        if stage.words.iter().take(command).any(environment::loads_code) {
            all |= Effect::ShellUnparsed;
        }
        all | self.command(stage.words.get(command..).unwrap_or_default(), documents, input)
    }

    fn substitutions(&mut self, word: &Word, documents: &[Word]) -> Effects {
        word.scripts
            .iter()
            .fold(Effects::NONE, |all, script| all | self.deeper(|run| run.script(script, documents, Input::Other)))
    }

    fn redirect(&mut self, redirect: &Redirect, documents: &[Word]) -> Effects {
        let (Redirect::Read(word) | Redirect::Write(word) | Redirect::Duplicate(word) | Redirect::Text(word)) =
            redirect
        else {
            return Effects::NONE;
        };
        let effects = self.substitutions(word, documents);
        let target = word.text.as_str();
        let network = target.starts_with("/dev/tcp/") || target.starts_with("/dev/udp/");
        match redirect {
            _ if network => effects | Effect::ShellNetwork,
            Redirect::Write(_) if matches!(target, "/dev/null" | "/dev/stdout" | "/dev/stderr" | "/dev/tty") => effects,
            Redirect::Write(_) if target.starts_with("/dev/") => effects | Effect::ShellWrite | Effect::ShellDelete,
            Redirect::Write(_) => effects | Effect::ShellWrite,
            // `>& file` is another spelling of `&> file`.
            Redirect::Duplicate(_) if !target.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-') => {
                effects | Effect::ShellWrite
            }
            _ => effects,
        }
    }

    /// A command and its arguments.
    fn command(&mut self, words: &[Word], documents: &[Word], input: Input<'_>) -> Effects {
        let Some((first, arguments)) = words.split_first() else { return Effects::NONE };
        if first.computed || first.text.contains("{}") {
            return Effect::ShellRun | Effect::ShellUnparsed;
        }
        self.steps = self.steps.saturating_sub(words.len());
        let name = base_name(&first.text);
        let by_name = commands::effects(&name, arguments);
        self.known |= by_name.is_some();
        let mut own = by_name.unwrap_or_default() | Effect::ShellRun;
        if environment::sets_variables(&name) && arguments.iter().any(environment::loads_code) {
            own |= Effect::ShellUnparsed;
        }
        own | self.deeper(|run| run.inner(&name, arguments, documents, input))
    }

    /// What a command runs in its turn.
    fn inner(&mut self, name: &str, arguments: &[Word], documents: &[Word], input: Input<'_>) -> Effects {
        if commands::is_shell(name) {
            self.known = true;
            return self.shell(arguments, documents, input);
        }
        if commands::is_interpreter(name) {
            return interpreter(arguments, input);
        }
        let inner = wrappers::inner(name, arguments);
        self.known |= !matches!(inner, Inner::Nothing);
        match inner {
            Inner::Nothing => Effects::NONE,
            Inner::Command(words) => self.command(words, documents, input),
            Inner::Commands(all) => {
                all.iter().fold(Effects::NONE, |effects, words| effects | self.command(words, documents, input))
            }
            Inner::AnyOf(words) => {
                let plain =
                    |at: &usize| *at == 0 || words.get(*at).is_some_and(|word| !word.text.starts_with(['-', '/']));
                let starts = (0..words.len().min(FURTHEST)).filter(plain).filter_map(|at| words.get(at..));
                starts.fold(Effects::NONE, |effects, words| effects | self.command(words, documents, input))
            }
            Inner::Text(None) => Effect::ShellUnparsed | self.fetched(arguments, documents),
            Inner::Text(Some(text)) => self.text(&text),
            Inner::Input => self.input(input),
        }
    }

    /// `sh -c text`, `sh file`, or a script on standard input.
    fn shell(&mut self, arguments: &[Word], documents: &[Word], input: Input<'_>) -> Effects {
        match wrappers::shell(arguments) {
            wrappers::Source::Text(word) if word.computed => {
                Effect::ShellUnparsed | self.fetched(std::slice::from_ref(word), documents)
            }
            wrappers::Source::Text(word) => self.text(&word.text),
            wrappers::Source::File(word) if word.computed => {
                Effect::ShellUnparsed | self.fetched(std::slice::from_ref(word), documents)
            }
            wrappers::Source::File(word) if word.text == "/dev/stdin" => self.input(input),
            wrappers::Source::File(_) => Effects::NONE,
            wrappers::Source::Unknown => Effect::ShellUnparsed.into(),
            wrappers::Source::Input => self.input(input),
        }
    }

    /// Runs what is on standard input.
    fn input(&mut self, input: Input<'_>) -> Effects {
        match input {
            Input::Other => Effects::NONE,
            Input::Pipe => Effect::ShellPipeToShell | Effect::ShellUnparsed,
            Input::Text(word) if word.computed || !word.scripts.is_empty() => Effect::ShellUnparsed.into(),
            Input::Text(word) => self.text(&word.text),
        }
    }

    /// `sh -c "$(curl …)"`, `. <(curl …)`: a pipe to a shell in other clothes.
    fn fetched(&mut self, words: &[Word], documents: &[Word]) -> Effects {
        let inside = words.iter().fold(Effects::NONE, |all, word| all | self.substitutions(word, documents));
        if inside.is_empty() { Effects::NONE } else { Effect::ShellPipeToShell.into() }
    }
}

/// `python -c …`, `perl script`, or a program on standard input.
fn interpreter(arguments: &[Word], input: Input<'_>) -> Effects {
    let program = |word: &Word| {
        let flag = word.text.trim_start_matches('-');
        word.text.starts_with('-')
            && (matches!(flag, "c" | "e" | "E" | "r" | "p" | "pe" | "ne" | "eval" | "print" | "command" | "exec")
                || (!word.text.starts_with("--") && (flag.starts_with('e') || flag.ends_with(['c', 'e']))))
    };
    let mut effects = Effects::NONE;
    if arguments.iter().any(program) {
        effects |= Effect::ShellCode;
    } else if arguments.iter().all(|word| word.text.starts_with('-')) {
        match input {
            Input::Other => {}
            Input::Pipe => effects |= Effect::ShellPipeToShell | Effect::ShellCode,
            Input::Text(_) => effects |= Effect::ShellCode,
        }
    }
    effects
}

/// Joined by spaces, as `eval` and `ssh` do; nothing where a word is computed.
fn joined(words: &[Word]) -> Option<Cow<'_, str>> {
    match words {
        _ if words.iter().any(|word| word.computed) => None,
        [one] => Some(Cow::Borrowed(&one.text)),
        many => Some(Cow::Owned(many.iter().map(|word| word.text.as_str()).collect::<Vec<_>>().join(" "))),
    }
}
