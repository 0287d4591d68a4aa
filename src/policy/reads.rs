//! What a policy reads of a call: decides what has to be built for it, and what its decision may be cached by.

use std::collections::BTreeSet;
use std::ops::BitOr;
use std::sync::Arc;

use cedar_policy::pst::{Clause, Expr, PrincipalConstraint, Template, Var};

/// The parts of `context` that an expression reads, and whether it looks at the tool or the principal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub(super) struct Reads(u8);

impl Reads {
    pub(super) const NOTHING: Self = Self(0);
    pub(super) const INPUT: Self = Self(1);
    pub(super) const EFFECTS: Self = Self(2);
    pub(super) const SURFACE: Self = Self(4);
    pub(super) const TIME: Self = Self(8);
    pub(super) const SOURCE: Self = Self(16);
    /// `action` or `resource`, outside the scope.
    pub(super) const TOOL: Self = Self(32);
    /// Every part of `context`.
    pub(super) const CONTEXT: Self = Self(31);
    /// `principal`, its attributes or its roles.
    pub(super) const PRINCIPAL: Self = Self(64);
    pub(super) const EVERYTHING: Self = Self(127);

    pub(super) const fn any(self, of: Self) -> bool {
        self.0 & of.0 != 0
    }

    /// Whether the outcome depends on the circumstances of one call.
    pub(super) const fn context(self) -> bool {
        self.any(Self::CONTEXT)
    }

    /// The part that `context.NAME` stands for. An unknown name is a fault of validation, not ours.
    fn of_attribute(name: &str) -> Self {
        match name {
            "input" => Self::INPUT,
            "effects" => Self::EFFECTS,
            "surface" => Self::SURFACE,
            "time" => Self::TIME,
            "source_ip" => Self::SOURCE,
            _ => Self::EVERYTHING,
        }
    }

    pub(super) fn of_expression(expression: &Expr) -> Self {
        let context = |inner: &Arc<Expr>| matches!(**inner, Expr::Var(Var::Context));
        expression.reduce(
            &|node| match node {
                Expr::GetAttr { expr, attr } if context(expr) => Some(Self::of_attribute(attr)),
                Expr::HasAttr { expr, attrs } if context(expr) => Some(Self::of_attribute(attrs.first())),
                // `context` on its own, as in `context == {…}`.
                Expr::Var(Var::Context) => Some(Self::CONTEXT),
                Expr::Var(Var::Action | Var::Resource) => Some(Self::TOOL),
                Expr::Var(Var::Principal) => Some(Self::PRINCIPAL),
                _ => None,
            },
            &|one, other| one | other,
            Self::NOTHING,
        )
    }

    /// What is left to read once the scope has settled action and resource.
    pub(super) fn of_settled(template: &Template) -> Self {
        let principal = match template.principal {
            PrincipalConstraint::In(_) | PrincipalConstraint::IsIn(..) => Self::PRINCIPAL,
            PrincipalConstraint::Any | PrincipalConstraint::Eq(_) | PrincipalConstraint::Is(_) => Self::NOTHING,
        };
        template.clauses().iter().fold(principal, |reads, clause| match clause {
            Clause::When(expression) | Clause::Unless(expression) => reads | Self::of_expression(expression),
        })
    }
}

impl BitOr for Reads {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// The members of `context.input` that policies read: the others are checked, and not copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fields {
    All,
    These(BTreeSet<String>),
}

impl Default for Fields {
    fn default() -> Self {
        Self::These(BTreeSet::new())
    }
}

impl Fields {
    pub(super) fn contains(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::These(names) => names.contains(name),
        }
    }

    pub(super) fn of(template: &Template) -> Self {
        template.clauses().iter().fold(Self::default(), |fields, clause| match clause {
            Clause::When(expression) | Clause::Unless(expression) => fields | Self::of_expression(expression),
        })
    }

    fn of_expression(expression: &Expr) -> Self {
        let context = |expr: &Expr| matches!(expr, Expr::Var(Var::Context));
        let input = |expr: &Expr| matches!(expr, Expr::GetAttr { expr, attr } if context(expr) && attr == "input");
        let one = |name: &str| Some(Self::These(BTreeSet::from([name.to_owned()])));
        expression.reduce(
            &|node| match node {
                Expr::GetAttr { expr, attr } if input(expr) => one(attr),
                Expr::HasAttr { expr, attrs } if input(expr) => one(attrs.first()),
                Expr::HasAttr { expr, attrs } if context(expr) && attrs.first() == "input" => {
                    attrs.get(1).map_or_else(|| Some(Self::default()), |name| one(name))
                }
                Expr::GetAttr { expr, attr } if context(expr) && attr != "input" => Some(Self::default()),
                Expr::HasAttr { expr, .. } if context(expr) => Some(Self::default()),
                // `context.input` or `context` as a whole.
                Expr::Var(Var::Context) => Some(Self::All),
                _ => None,
            },
            &|one, other| one | other,
            Self::default(),
        )
    }
}

impl BitOr for Fields {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        match (self, other) {
            (Self::These(mut names), Self::These(mut more)) => {
                names.append(&mut more);
                Self::These(names)
            }
            _ => Self::All,
        }
    }
}

#[cfg(test)]
mod tests {
    use cedar_policy::Policy;

    use super::*;

    #[test]
    fn the_members_of_the_input_that_are_read() {
        for (condition, fields) in [
            ("context.surface == \"both\" && context has source_ip", Some(&[][..])),
            ("context has input", Some(&[])),
            ("context.input has a && context.input.b.c == 1", Some(&["a", "b"])),
            ("context has input.d", Some(&["d"])),
            ("context.input[\"e f\"] == 1", Some(&["e f"])),
            ("context.input == {a: 1}", None),
            ("[context].contains(context)", None),
            ("(if true then context else context).input.a == 1", None),
        ] {
            let text = format!("permit(principal, action, resource) when {{ {condition} }};");
            let policy = Policy::parse(None, text).unwrap().to_pst().unwrap();
            let expected = fields
                .map_or(Fields::All, |names| Fields::These(names.iter().map(|name| (*name).to_owned()).collect()));
            assert_eq!(Fields::of(policy.body()), expected, "{condition}");
        }
    }
}
