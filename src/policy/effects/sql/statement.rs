//! What one statement does, apart from what is inside it.

use std::ops::ControlFlow;

use sqlparser::ast::{
    AlterTable, AlterTableOperation, BinaryOperator, CopyTarget, Delete, Expr, FromTable, FunctionArguments, Merge,
    MergeAction, ObjectName, ObjectType, Query, SelectItem, SetExpr, Statement, Visit, Visitor,
};

use crate::policy::effects::vocabulary::{Effect, Effects};

/// The effects of the statement itself; what its parts do is for the walk that calls this.
pub(super) fn effects(statement: &Statement) -> Effects {
    match statement {
        Statement::Query(_) | Statement::Explain { .. } | Statement::ExplainTable { .. } => Effect::SqlRead.into(),
        Statement::Insert(insert) => {
            let replaces =
                if insert.overwrite || insert.replace_into { Effect::SqlDelete.into() } else { Effects::NONE };
            replaces | returned(insert.returning.is_some()) | Effect::SqlWrite
        }
        Statement::Update(update) => {
            let all = is_unrestricted(update.selection.as_ref()).then_some(Effect::SqlUpdateAll);
            all.map_or(Effects::NONE, Effects::from) | returned(update.returning.is_some()) | Effect::SqlWrite
        }
        Statement::Delete(delete) => of_delete(delete),
        Statement::Merge(merge) => of_merge(merge),
        Statement::Truncate(_) => Effect::SqlTruncate | Effect::SqlWrite,
        Statement::Call(_) | Statement::Execute { .. } => Effect::SqlExecute.into(),
        Statement::Copy { to, target, .. } => of_copy(*to, target),
        Statement::CopyIntoSnowflake { .. } | Statement::LoadData { .. } | Statement::Put { .. } => {
            Effect::SqlWrite.into()
        }
        Statement::Remove(_) => Effect::SqlWrite | Effect::SqlDelete,
        Statement::Unload { .. } | Statement::ExportData(_) => Effect::SqlRead | Effect::SqlOther,
        Statement::Grant(_) | Statement::Deny(_) | Statement::Revoke(_) => Effect::SqlGrant | Effect::SqlWrite,
        _ => of_definition(statement),
    }
}

/// Statements that define, change or drop objects, and the rest.
fn of_definition(statement: &Statement) -> Effects {
    match statement {
        Statement::AlterTable(alter) => of_alter_table(alter),
        Statement::AlterRole { .. } | Statement::AlterUser(_) | Statement::AlterPolicy(_) => {
            Effect::SqlAlter | Effect::SqlGrant | Effect::SqlWrite
        }
        Statement::Drop { object_type: ObjectType::Role | ObjectType::User, .. } | Statement::DropPolicy(_) => {
            Effect::SqlDrop | Effect::SqlGrant | Effect::SqlWrite
        }
        Statement::CreateRole(_) | Statement::CreateUser(_) | Statement::CreatePolicy(_) => {
            Effect::SqlCreate | Effect::SqlGrant | Effect::SqlWrite
        }
        // What stands in the way is dropped with its rows.
        Statement::CreateTable(table) if table.or_replace => Effect::SqlCreate | Effect::SqlDrop | Effect::SqlWrite,
        Statement::CreateDatabase { or_replace: true, .. } | Statement::CreateSchema { or_replace: true, .. } => {
            Effect::SqlCreate | Effect::SqlDrop | Effect::SqlWrite
        }
        Statement::StartTransaction { .. }
        | Statement::Commit { .. }
        | Statement::Rollback { .. }
        | Statement::Savepoint { .. }
        | Statement::ReleaseSavepoint { .. }
        | Statement::Use(_) => Effect::SqlSession.into(),
        // What they hold is walked.
        Statement::If(_) | Statement::Case(_) | Statement::While(_) => Effects::NONE,
        _ => by_kind(statement),
    }
}

/// Statements that create or change objects.
fn by_kind(statement: &Statement) -> Effects {
    use Statement as S;
    match statement {
        S::CreateView(_)
        | S::CreateTable(_)
        | S::CreateVirtualTable { .. }
        | S::CreateIndex(_)
        | S::CreateSecret { .. }
        | S::CreateServer(_)
        | S::CreateConnector(_)
        | S::CreateOperator(_)
        | S::CreateOperatorFamily(_)
        | S::CreateOperatorClass(_)
        | S::CreateTextSearch(_)
        | S::CreateExtension(_)
        | S::CreateCollation(_)
        | S::CreateSchema { .. }
        | S::CreateDatabase { .. }
        | S::CreateFunction(_)
        | S::CreateTrigger(_)
        | S::CreateProcedure { .. }
        | S::CreateMacro { .. }
        | S::CreateStage { .. }
        | S::CreateFileFormat { .. }
        | S::CreateWarehouse(_)
        | S::CreateSequence { .. }
        | S::CreateDomain(_)
        | S::CreateType { .. } => Effect::SqlCreate | Effect::SqlWrite,

        S::AlterSchema(_)
        | S::AlterIndex { .. }
        | S::AlterView { .. }
        | S::AlterFunction(_)
        | S::AlterType(_)
        | S::AlterCollation(_)
        | S::AlterOperator(_)
        | S::AlterOperatorFamily(_)
        | S::AlterOperatorClass(_)
        | S::AlterTextSearch(_)
        | S::AlterConnector { .. }
        | S::Comment { .. }
        | S::RenameTable(_) => Effect::SqlAlter | Effect::SqlWrite,

        other => by_first_word(other),
    }
}

/// The rest: statements that drop or show, and those that have no effect with a name of their own.
fn by_first_word(statement: &Statement) -> Effects {
    use Statement as S;
    match statement {
        S::Drop { .. }
        | S::DropFunction(_)
        | S::DropDomain(_)
        | S::DropProcedure { .. }
        | S::DropSecret { .. }
        | S::DropConnector { .. }
        | S::DropExtension(_)
        | S::DropOperator(_)
        | S::DropOperatorFamily(_)
        | S::DropOperatorClass(_)
        | S::DropTrigger(_) => Effect::SqlDrop | Effect::SqlWrite,

        S::ShowFunctions { .. }
        | S::ShowVariable { .. }
        | S::ShowStatus { .. }
        | S::ShowVariables { .. }
        | S::ShowCreate { .. }
        | S::ShowColumns { .. }
        | S::ShowCatalogs { .. }
        | S::ShowDatabases { .. }
        | S::ShowProcessList { .. }
        | S::ShowSchemas { .. }
        | S::ShowCharset(_)
        | S::ShowObjects(_)
        | S::ShowTables { .. }
        | S::ShowViews { .. }
        | S::ShowCollation { .. }
        | S::List(_) => Effect::SqlRead.into(),

        _ => Effect::SqlOther.into(),
    }
}

fn returned(returns: bool) -> Effects {
    if returns { Effect::SqlRead.into() } else { Effects::NONE }
}

fn of_delete(delete: &Delete) -> Effects {
    let mut effects = Effect::SqlDelete | Effect::SqlWrite | returned(delete.returning.is_some());
    if is_unrestricted(delete.selection.as_ref()) {
        effects |= Effect::SqlDeleteAll;
    }
    effects
}

fn of_merge(merge: &Merge) -> Effects {
    let deletes = merge.clauses.iter().any(|clause| matches!(clause.action, MergeAction::Delete { .. }));
    if deletes { Effect::SqlWrite | Effect::SqlDelete } else { Effect::SqlWrite.into() }
}

fn of_copy(to: bool, target: &CopyTarget) -> Effects {
    let direction = if to { Effect::SqlRead } else { Effect::SqlWrite };
    match target {
        CopyTarget::Program { .. } => direction | Effect::SqlExecute,
        CopyTarget::File { .. } => direction | Effect::SqlOther,
        CopyTarget::Stdin | CopyTarget::Stdout => direction.into(),
    }
}

fn of_alter_table(alter: &AlterTable) -> Effects {
    let drops = alter.operations.iter().any(|operation| {
        matches!(
            operation,
            AlterTableOperation::DropColumn { .. }
                | AlterTableOperation::DropPartitions { .. }
                | AlterTableOperation::DropProjection { .. }
        )
    });
    let kept = Effect::SqlAlter | Effect::SqlWrite;
    if drops { kept | Effect::SqlDrop } else { kept }
}

/// Of the pragmas of SQLite these only read, with an argument or without.
const READING_PRAGMAS: &[&str] = &[
    "table_info",
    "table_xinfo",
    "table_list",
    "index_info",
    "index_list",
    "index_xinfo",
    "foreign_key_list",
    "foreign_key_check",
    "integrity_check",
    "quick_check",
    "function_list",
    "module_list",
    "pragma_list",
    "database_list",
    "collation_list",
    "compile_options",
];

/// And these do something without one.
const ACTING_PRAGMAS: &[&str] = &["wal_checkpoint", "optimize", "incremental_vacuum", "shrink_memory"];

/// What a pragma of SQLite does.
pub(super) fn of_pragma(name: &ObjectName, has_value: bool, is_assignment: bool) -> Effects {
    let is = |list: &[&str]| last_part(name).is_some_and(|name| list.iter().any(|one| one.eq_ignore_ascii_case(name)));
    let reads = (is(READING_PRAGMAS) && !is_assignment) || (!has_value && !is(ACTING_PRAGMAS));
    if reads { Effect::SqlRead.into() } else { Effect::SqlOther.into() }
}

/// Whether the statement only shows a plan: what it explains is not run.
pub(super) fn only_explains(statement: &Statement) -> bool {
    let Statement::Explain { analyze, options, .. } = statement else { return false };
    let asks = options.iter().flatten().any(|option| option.name.value.eq_ignore_ascii_case("analyze"));
    !analyze && !asks
}

/// Whether a condition is missing or holds for every row: `WHERE 1 = 1`, `WHERE id = 2 OR TRUE`, `WHERE id = id`.
fn is_unrestricted(condition: Option<&Expr>) -> bool {
    let Some(condition) = condition else { return true };
    match condition {
        Expr::Nested(inner) => is_unrestricted(Some(inner)),
        Expr::BinaryOp { left, op: BinaryOperator::Or, right } => {
            is_unrestricted(Some(left)) || is_unrestricted(Some(right))
        }
        Expr::BinaryOp { left, op: BinaryOperator::And, right } => {
            is_unrestricted(Some(left)) && is_unrestricted(Some(right))
        }
        Expr::BinaryOp { left, op: BinaryOperator::Eq, right } if left == right => true,
        other => !depends_on_rows(other),
    }
}

/// Whether an expression names a column, asks a question or takes a parameter.
fn depends_on_rows(expression: &Expr) -> bool {
    struct Names;
    impl Visitor for Names {
        type Break = ();

        fn pre_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
            ControlFlow::Break(())
        }

        fn pre_visit_expr(&mut self, expression: &Expr) -> ControlFlow<()> {
            match expression {
                Expr::Identifier(_) | Expr::CompoundIdentifier(_) | Expr::Function(_) | Expr::MatchAgainst { .. } => {
                    ControlFlow::Break(())
                }
                _ => ControlFlow::Continue(()),
            }
        }
    }
    expression.visit(&mut Names).is_break()
}

fn last_part(name: &ObjectName) -> Option<&str> {
    name.0.last().and_then(|part| part.as_ident()).map(|ident| ident.value.as_str())
}

/// Whether nobody would write this as a phrase. Left out are statements that change no data and read like English
/// (`show me the tables`, `use caution`, `select best laptop`) and `delete old files`, which no common database runs.
pub(super) fn is_unmistakable(statement: &Statement) -> bool {
    match statement {
        Statement::Query(query) => is_unmistakable_query(query),
        Statement::Delete(delete) => matches!(delete.from, FromTable::WithFromKeyword(_)) || delete.selection.is_some(),
        Statement::Explain { statement, .. } => is_unmistakable(statement),
        Statement::Call(function) => !matches!(function.args, FunctionArguments::None),
        Statement::Execute { has_parentheses, immediate, parameters, .. } => {
            *has_parentheses || *immediate || !parameters.is_empty()
        }
        Statement::Insert(_)
        | Statement::Update(_)
        | Statement::Merge(_)
        | Statement::Truncate(_)
        | Statement::Copy { .. }
        | Statement::Prepare { .. }
        | Statement::AttachDatabase { .. }
        | Statement::Grant(_)
        | Statement::Revoke(_) => true,
        other => of_definition(other).meets(Effect::SqlCreate | Effect::SqlAlter | Effect::SqlDrop),
    }
}

fn is_unmistakable_query(query: &Query) -> bool {
    let by_body = match &*query.body {
        SetExpr::Select(select) => {
            let bare = |item: &SelectItem| {
                matches!(
                    item,
                    SelectItem::UnnamedExpr(Expr::Identifier(_))
                        | SelectItem::ExprWithAlias { expr: Expr::Identifier(_), .. }
                )
            };
            select.into.is_some() || !select.from.is_empty() || !select.projection.iter().all(bare)
        }
        SetExpr::Query(inner) => is_unmistakable_query(inner),
        SetExpr::Table(_) => false,
        _ => true,
    };
    by_body || query.with.is_some()
}
