//! `sed`: scripts that run commands (`e`, `s/…/…/e`) or write files (`w`).

use super::Effects;
use super::tree::Word;
use crate::policy::effects::vocabulary::Effect;

/// What the scripts among the arguments do, apart from editing.
pub(super) fn effects(arguments: &[Word]) -> Effects {
    let scripts = scripts(arguments);
    let text = scripts.iter().map(|(text, _)| *text).collect::<Vec<_>>().join("\n");
    let computed = scripts.iter().any(|(_, computed)| *computed);
    let mut scan = Scan { rest: &text, found: Effects::NONE };
    // What an expansion would put in is not here to be read.
    if scan.script().is_none() && !computed { scan.found | Effect::ShellUnparsed } else { scan.found }
}

/// The texts of `-e`, else the first operand, each with whether it is computed.
fn scripts(arguments: &[Word]) -> Vec<(&str, bool)> {
    let (mut scripts, mut operand, mut from_file) = (Vec::new(), None, false);
    let mut rest = arguments.iter();
    while let Some(word) = rest.next() {
        let text = word.text.as_str();
        if let Some(long) = text.strip_prefix("--") {
            // A long name may be cut short.
            let (name, value) = long.split_once('=').map_or((long, None), |(name, value)| (name, Some(value)));
            if name.starts_with('e') && "expression".starts_with(name) {
                let value = value.map(|text| (text, word.computed));
                scripts.extend(value.or_else(|| rest.next().map(|next| (next.text.as_str(), next.computed))));
            } else if name.starts_with("fi") && "file".starts_with(name) {
                from_file = true;
                if value.is_none() {
                    rest.next();
                }
            }
        } else if let Some(cluster) = text.strip_prefix('-').filter(|cluster| !cluster.is_empty()) {
            // The first letter with a value ends the cluster.
            let Some(at) = cluster.find(['e', 'f', 'l', 'i']) else { continue };
            let (letter, value) = (cluster.get(at..=at), cluster.get(at + 1..).unwrap_or_default());
            let value = match letter {
                Some("i") => continue,
                _ if value.is_empty() => rest.next().map(|next| (next.text.as_str(), next.computed)),
                _ => Some((value, word.computed)),
            };
            match letter {
                Some("e") => scripts.extend(value),
                Some("f") => from_file = true,
                _ => {}
            }
        } else if !text.is_empty() {
            // The empty word after `-i` is BSD's suffix.
            operand = operand.or(Some((text, word.computed)));
        }
    }
    if scripts.is_empty() && !from_file {
        scripts.extend(operand);
    }
    scripts
}

/// Goes through the commands of a script; nothing where it is not one.
struct Scan<'a> {
    rest: &'a str,
    found: Effects,
}

impl Scan<'_> {
    fn script(&mut self) -> Option<()> {
        loop {
            self.skip(|c| c.is_whitespace() || matches!(c, ';' | '{' | '}'));
            if self.rest.is_empty() {
                return Some(());
            }
            if self.rest.starts_with('#') {
                self.line();
                continue;
            }
            self.addresses()?;
            self.skip(|c| c.is_whitespace() || c == '!');
            self.command()?;
        }
    }

    fn skip(&mut self, which: impl Fn(char) -> bool) {
        self.rest = self.rest.trim_start_matches(which);
    }

    fn bump(&mut self) -> Option<char> {
        let mut chars = self.rest.chars();
        let next = chars.next();
        self.rest = chars.as_str();
        next
    }

    /// `1`, `$`, `/x/I`, `\,x,`, `1,/x/`, `0~3`, `1,+2`.
    fn addresses(&mut self) -> Option<()> {
        loop {
            match self.rest.chars().next()? {
                '/' => {
                    self.bump();
                    self.section('/')?;
                    self.skip(|c| matches!(c, 'I' | 'M'));
                }
                '\\' => {
                    self.bump();
                    let delimiter = self.bump()?;
                    self.section(delimiter)?;
                    self.skip(|c| matches!(c, 'I' | 'M'));
                }
                c if c.is_ascii_digit() || matches!(c, '$' | ',' | '~' | '+' | ' ' | '\t') => {
                    self.bump();
                }
                _ => return Some(()),
            }
        }
    }

    /// Up to the next `delimiter` without a backslash.
    fn section(&mut self, delimiter: char) -> Option<()> {
        loop {
            match self.bump()? {
                c if c == delimiter => return Some(()),
                '\\' => {
                    self.bump();
                }
                _ => {}
            }
        }
    }

    /// To the end of the line, over lines that end in a backslash.
    fn line(&mut self) {
        while let Some(c) = self.bump() {
            match c {
                '\n' => return,
                '\\' => {
                    self.bump();
                }
                _ => {}
            }
        }
    }

    fn command(&mut self) -> Option<()> {
        match self.bump()? {
            '{' => return Some(()),
            'e' => {
                self.found |= Effect::ShellUnparsed;
                self.line();
                return Some(());
            }
            'w' | 'W' => {
                self.found |= Effect::ShellWrite;
                self.line();
                return Some(());
            }
            'a' | 'i' | 'c' | 'r' | 'R' => {
                self.line();
                return Some(());
            }
            'b' | 't' | 'T' | ':' => self.skip(|c| !matches!(c, ';' | '}' | '\n')),
            'l' | 'L' | 'q' | 'Q' => self.skip(|c| c.is_ascii_digit() || c == ' '),
            's' => {
                let delimiter = self.bump()?;
                self.section(delimiter)?;
                self.section(delimiter)?;
                return self.flags();
            }
            'y' => {
                let delimiter = self.bump()?;
                self.section(delimiter)?;
                self.section(delimiter)?;
            }
            'd' | 'D' | 'g' | 'G' | 'h' | 'H' | 'n' | 'N' | 'p' | 'P' | 'x' | 'z' | '=' | 'F' => {}
            _ => return None,
        }
        self.end()
    }

    /// After `s/…/…/`.
    fn flags(&mut self) -> Option<()> {
        loop {
            match self.rest.chars().next() {
                Some('e') => self.found |= Effect::ShellUnparsed,
                Some('w') => {
                    self.found |= Effect::ShellWrite;
                    self.line();
                    return Some(());
                }
                Some('g' | 'p' | 'i' | 'I' | 'm' | 'M' | '0'..='9') => {}
                _ => return self.end(),
            }
            self.bump();
        }
    }

    fn end(&mut self) -> Option<()> {
        self.skip(|c| matches!(c, ' ' | '\t' | '\r'));
        matches!(self.rest.chars().next(), None | Some(';' | '}' | '\n' | '#')).then_some(())
    }
}
