//! Functions that do more than compute a value, by name.

use sqlparser::ast::ObjectName;

use crate::policy::effects::vocabulary::{Effect, Effects};

/// They reach beyond the data: files, programs, other servers, other sessions, SQL out of text.
const REACHING_FUNCTIONS: &[&str] = &[
    // PostgreSQL
    "pg_read_file",
    "pg_read_binary_file",
    "pg_ls_dir",
    "pg_stat_file",
    "pg_file_write",
    "pg_file_unlink",
    "lo_import",
    "lo_export",
    "pg_terminate_backend",
    "pg_cancel_backend",
    "pg_reload_conf",
    "pg_rotate_logfile",
    "pg_promote",
    "pg_switch_wal",
    "query_to_xml",
    "query_to_xml_and_xmlschema",
    "query_to_xmlschema",
    "cursor_to_xml",
    "table_to_xml",
    "schema_to_xml",
    "database_to_xml",
    "ts_stat",
    "dblink",
    "set_config",
    // MySQL, SQLite, SQL Server, DuckDB, ClickHouse
    "load_file",
    "sys_exec",
    "sys_eval",
    "load_extension",
    "readfile",
    "writefile",
    "edit",
    "fts3_tokenizer",
    "openrowset",
    "opendatasource",
    "openquery",
    "xp_cmdshell",
    "sp_executesql",
    "read_csv",
    "read_csv_auto",
    "read_parquet",
    "read_json",
    "read_json_auto",
    "read_text",
    "read_blob",
    "file",
    "url",
    "remote",
    "remotesecure",
    "s3",
    "executable",
];

const REACHING_PREFIXES: &[&str] = &["dblink_", "xp_", "sp_oa", "utl_", "dbms_", "pg_ls_"];

const WRITING_FUNCTIONS: &[&str] =
    &["nextval", "setval", "lo_create", "lo_creat", "lo_put", "lo_from_bytea", "lo_unlink", "lowrite"];

/// What calling a function by this name does, beyond computing a value.
pub(super) fn effects(name: &ObjectName) -> Effects {
    let mut effects = Effects::NONE;
    // A package (`UTL_HTTP.request`) or a schema may stand before the name.
    for part in name.0.iter().filter_map(|part| part.as_ident()) {
        let is = |one: &&str| one.eq_ignore_ascii_case(&part.value);
        let begins =
            |prefix: &&str| part.value.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
        if REACHING_FUNCTIONS.iter().any(&is) || REACHING_PREFIXES.iter().any(begins) {
            effects |= Effect::SqlExecute;
        }
        if WRITING_FUNCTIONS.iter().any(is) {
            effects |= Effect::SqlWrite;
        }
    }
    effects
}
