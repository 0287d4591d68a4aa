//! Every effect there is: its name in policies, and what it means.

use std::ops::{BitAnd, BitOr, BitOrAssign};

macro_rules! vocabulary {
    ($($variant:ident = $name:literal, $meaning:literal;)*) => {
        /// Something that the arguments of a call would do.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(super) enum Effect { $($variant),* }

        /// Every effect with its meaning, sorted by name. Nothing outside it is ever produced.
        pub const VOCABULARY: &[(&str, &str)] = &[$(($name, $meaning)),*];

        const ALL: &[(Effect, &str)] = &[$((Effect::$variant, $name)),*];
    };
}

vocabulary! {
    PathAbsolute = "path.absolute", "a path from the root, a drive or a share";
    PathHome = "path.home", "a path in a home directory (`~`, `$HOME`)";
    PathSecret = "path.secret", "a path where credentials are usually kept (`.ssh`, `.env`, `id_rsa`)";
    PathSystem = "path.system", "a path in a directory of the operating system (`/etc`, `/proc`, `C:\\Windows`)";
    PathTraversal = "path.traversal", "a path with a `..` segment, in any encoding";
    ShellCode = "shell.code", "runs program text of another language (`python -c`, `perl -e`)";
    ShellDelete = "shell.delete", "deletes or overwrites files or disks";
    ShellNetwork = "shell.network", "talks to another machine";
    ShellPipeToShell = "shell.pipe_to_shell", "hands the output of one command to a shell to run";
    ShellPrivilege = "shell.privilege", "runs as another user";
    ShellRun = "shell.run", "runs a command";
    ShellSystem = "shell.system", "stops processes, or changes services, permissions, users or packages";
    ShellUnparsed = "shell.unparsed", "is a shell command by its name, and what it runs cannot be told";
    ShellWrite = "shell.write", "creates or changes files";
    SqlAlter = "sql.alter", "changes the definition of an object";
    SqlCreate = "sql.create", "creates an object";
    SqlDelete = "sql.delete", "deletes rows";
    SqlDeleteAll = "sql.delete_all", "deletes rows with no condition that narrows them";
    SqlDrop = "sql.drop", "drops an object or a column";
    SqlExecute = "sql.execute", "runs a procedure, a program, or a function that reaches beyond the data";
    SqlGrant = "sql.grant", "changes permissions, roles or users";
    SqlOther = "sql.other", "a statement of any other kind: it may change something";
    SqlRead = "sql.read", "reads data or definitions";
    SqlSession = "sql.session", "begins or ends a transaction, or chooses a database";
    SqlTruncate = "sql.truncate", "empties a table";
    SqlUnparsed = "sql.unparsed", "is SQL by its name, and does not parse";
    SqlUpdateAll = "sql.update_all", "updates rows with no condition that narrows them";
    SqlWrite = "sql.write", "changes data, definitions or permissions";
    UrlCredentials = "url.credentials", "a URL with a user name or a password in it";
    UrlFile = "url.file", "a `file:` URL";
    UrlHttp = "url.http", "an `http:` or `https:` URL";
    UrlMetadata = "url.metadata", "the address of a cloud's metadata service";
    UrlOtherScheme = "url.other_scheme", "a URL that is neither `http:`, `https:` nor `file:`";
    UrlPlainHttp = "url.plain_http", "an unencrypted `http:` URL";
    UrlPrivateNetwork = "url.private_network", "an address that is not of the public internet, in any spelling";
    UrlUnparsed = "url.unparsed", "looks like a URL, and does not parse";
}

/// A set of effects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Effects(u64);

impl Effects {
    pub(super) const NONE: Self = Self(0);

    #[cfg(test)]
    pub(super) const fn has(self, effect: Effect) -> bool {
        self.0 & (1 << effect as u64) != 0
    }

    /// Whether any of `others` is among these.
    pub(super) const fn meets(self, others: Self) -> bool {
        self.0 & others.0 != 0
    }

    pub(super) const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The names, sorted.
    pub(super) fn names(self) -> Vec<&'static str> {
        // An empty vector takes no memory.
        if self.is_empty() {
            return Vec::new();
        }
        ALL.iter().filter(|(effect, _)| self.meets((*effect).into())).map(|(_, name)| *name).collect()
    }
}

impl From<Effect> for Effects {
    fn from(effect: Effect) -> Self {
        Self(1 << effect as u64)
    }
}

impl<T: Into<Self>> BitOr<T> for Effects {
    type Output = Self;

    fn bitor(self, other: T) -> Self {
        Self(self.0 | other.into().0)
    }
}

impl BitAnd for Effects {
    type Output = Self;

    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl<T: Into<Effects>> BitOr<T> for Effect {
    type Output = Effects;

    fn bitor(self, other: T) -> Effects {
        Effects::from(self) | other
    }
}

impl<T: Into<Self>> BitOrAssign<T> for Effects {
    fn bitor_assign(&mut self, other: T) {
        self.0 |= other.into().0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vocabulary_is_sorted_unique_and_fits_the_set() {
        assert!(VOCABULARY.is_sorted_by(|one, two| one.0 < two.0));
        assert!(VOCABULARY.len() <= 64);
        let everything = ALL.iter().fold(Effects::NONE, |set, (effect, _)| set | *effect);
        assert_eq!(everything.names(), VOCABULARY.iter().map(|(name, _)| *name).collect::<Vec<_>>());
    }
}
