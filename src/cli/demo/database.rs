//! A made-up database: SQLite in memory, read by one tool and changed by the other.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rmcp::handler::server::router::tool::ToolRouter;
use rmcp::handler::server::wrapper::{Json, Parameters};
use rmcp::model::{Implementation, ServerCapabilities, ServerConfig};
use rmcp::schemars::JsonSchema;
use rmcp::{ServerHandler, tool, tool_handler, tool_router};
use rusqlite::fallible_iterator::FallibleIterator;
use rusqlite::limits::Limit;
use rusqlite::types::ValueRef;
use rusqlite::{Batch, Connection, InterruptHandle, Statement};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Rows in one result; more are cut off and counted as `truncated`.
const MAX_ROWS: usize = 1000;
const TIME_LIMIT: Duration = Duration::from_secs(5);
const MAX_SQL_BYTES: i32 = 64 * 1024;
const MAX_VALUE_BYTES: i32 = 1024 * 1024;

/// 16 MiB in pages of 4 KiB; no statement leaves the database in memory, since nothing can be attached.
const SCHEMA: &str = "
PRAGMA max_page_count = 4096;
CREATE TABLE customers (
    id INTEGER PRIMARY KEY, name TEXT NOT NULL, email TEXT NOT NULL, plan TEXT NOT NULL, created_at TEXT NOT NULL
);
CREATE TABLE invoices (
    id INTEGER PRIMARY KEY, customer_id INTEGER NOT NULL REFERENCES customers (id), amount_cents INTEGER NOT NULL,
    currency TEXT NOT NULL, status TEXT NOT NULL, issued_at TEXT NOT NULL
);
CREATE TABLE tickets (
    id INTEGER PRIMARY KEY, customer_id INTEGER NOT NULL REFERENCES customers (id), subject TEXT NOT NULL,
    priority TEXT NOT NULL, status TEXT NOT NULL, opened_at TEXT NOT NULL
);
INSERT INTO customers VALUES
    (1, 'Ada Example', 'ada@example.com', 'pro', '2023-03-01'),
    (2, 'Brook Sample', 'brook@example.com', 'free', '2023-05-14'),
    (3, 'Casey Placeholder', 'casey@example.org', 'enterprise', '2022-11-08'),
    (4, 'Dana Dummy', 'dana@example.net', 'pro', '2024-01-02'),
    (5, 'Emery Test', 'emery@example.org', 'free', '2024-01-09');
INSERT INTO invoices VALUES
    (101, 1, 4900, 'EUR', 'paid', '2023-12-01'),
    (102, 1, 4900, 'EUR', 'open', '2024-01-01'),
    (103, 3, 120000, 'EUR', 'paid', '2023-12-01'),
    (104, 3, 120000, 'EUR', 'overdue', '2024-01-01'),
    (105, 4, 4900, 'USD', 'open', '2024-01-05');
INSERT INTO tickets VALUES
    (1001, 1, 'Cannot export the report as CSV', 'normal', 'open', '2024-01-10'),
    (1002, 3, 'Single sign-on loops after the update', 'high', 'open', '2024-01-11'),
    (1003, 2, 'How do I change my address?', 'low', 'closed', '2023-12-20'),
    (1004, 4, 'Charged twice in January', 'high', 'open', '2024-01-12');
";

/// A statement to run.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(crate = "rmcp::schemars")]
pub(super) struct Query {
    /// One SQL statement of SQLite that only reads: `SELECT name, plan FROM customers`.
    sql: String,
}

/// Statements to run.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(crate = "rmcp::schemars")]
pub(super) struct Execute {
    /// SQL statements of SQLite, separated by `;`: `UPDATE tickets SET status = 'closed' WHERE id = 1001`.
    sql: String,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(crate = "rmcp::schemars")]
pub(super) struct Table {
    /// The names of the columns.
    columns: Vec<String>,
    /// The rows, each with one value per column.
    rows: Vec<Vec<Value>>,
    /// Whether there were more rows than are given.
    truncated: bool,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(crate = "rmcp::schemars")]
pub(super) struct Affected {
    /// Rows inserted, updated or deleted.
    rows_affected: u64,
    /// Statements run.
    statements: u64,
}

/// The server.
#[derive(Debug)]
pub(super) struct Database {
    connection: Arc<Mutex<Connection>>,
    interrupt: Interrupt,
    tool_router: ToolRouter<Self>,
}

/// Stops the statement that runs.
struct Interrupt(InterruptHandle);

impl fmt::Debug for Interrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Interrupt")
    }
}

#[tool_router]
impl Database {
    /// Makes the tables.
    ///
    /// # Errors
    /// Where SQLite cannot.
    pub(super) fn open() -> rusqlite::Result<Self> {
        let connection = Connection::open_in_memory()?;
        connection.execute_batch(SCHEMA)?;
        connection.set_limit(Limit::SQLITE_LIMIT_SQL_LENGTH, MAX_SQL_BYTES)?;
        connection.set_limit(Limit::SQLITE_LIMIT_LENGTH, MAX_VALUE_BYTES)?;
        // Neither `ATTACH` nor `VACUUM INTO` reaches a file.
        connection.set_limit(Limit::SQLITE_LIMIT_ATTACHED, 0)?;
        let interrupt = connection.get_interrupt_handle();
        let connection = Arc::new(Mutex::new(connection));
        Ok(Self { connection, interrupt: Interrupt(interrupt), tool_router: Self::tool_router() })
    }

    #[tool(
        title = "Query the database",
        description = "Run one SQL statement that only reads and give its columns and rows. Tables: customers, invoices, tickets.",
        annotations(
            title = "Query the database",
            read_only_hint = true,
            destructive_hint = false,
            idempotent_hint = true,
            open_world_hint = false
        )
    )]
    async fn query(&self, Parameters(wanted): Parameters<Query>) -> Result<Json<Table>, String> {
        self.on_database(move |connection| query(connection, &wanted.sql)).await.map(Json)
    }

    #[tool(
        title = "Change the database",
        description = "Run any SQL statements, also those that change or drop tables, and say how many rows they changed. Tables: customers, invoices, tickets.",
        annotations(
            title = "Change the database",
            read_only_hint = false,
            destructive_hint = true,
            idempotent_hint = false,
            open_world_hint = false
        )
    )]
    async fn execute(&self, Parameters(wanted): Parameters<Execute>) -> Result<Json<Affected>, String> {
        self.on_database(move |connection| execute(connection, &wanted.sql)).await.map(Json)
    }

    /// Runs `work` where it may block, for as long as [`TIME_LIMIT`].
    async fn on_database<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, String> + Send + 'static,
    ) -> Result<T, String> {
        let connection = Arc::clone(&self.connection);
        let mut task = tokio::task::spawn_blocking(move || {
            let connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
            work(&connection)
        });
        let finished = match tokio::time::timeout(TIME_LIMIT, &mut task).await {
            Ok(finished) => finished,
            Err(_) => {
                self.interrupt.0.interrupt();
                task.await
            }
        };
        finished.unwrap_or_else(|_| Err(String::from("the statement broke off")))
    }
}

#[tool_handler(router = self.tool_router)]
impl ServerHandler for Database {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
            .with_server_info(Implementation::new("database", env!("CARGO_PKG_VERSION")).with_title("Demo database"))
            .with_instructions(
                "A made-up SQLite database in memory with the tables customers, invoices and tickets. Use `query` to \
                 read; `execute` changes it, until the server stops. `SELECT sql FROM sqlite_master` gives the schema.",
            )
    }
}

fn query(connection: &Connection, sql: &str) -> Result<Table, String> {
    let mut statement = connection.prepare(sql).map_err(|error| message(&error))?;
    if !statement.readonly() || statement.column_count() == 0 {
        return Err(String::from("`query` only reads: use `execute` for statements that change something"));
    }
    // Pragmas may call themselves read-only and are not.
    connection.pragma_update(None, "query_only", true).map_err(|error| message(&error))?;
    let table = read(&mut statement).map_err(|error| message(&error));
    let writable = connection.pragma_update(None, "query_only", false).map_err(|error| message(&error));
    writable.and(table)
}

fn read(statement: &mut Statement<'_>) -> rusqlite::Result<Table> {
    let columns: Vec<String> = statement.column_names().map(str::to_owned).collect();
    let mut table = Table { columns, rows: Vec::new(), truncated: false };
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        if table.rows.len() == MAX_ROWS {
            table.truncated = true;
            break;
        }
        let values = (0..table.columns.len()).map(|at| row.get_ref(at).map(json));
        table.rows.push(values.collect::<rusqlite::Result<_>>()?);
    }
    Ok(table)
}

fn execute(connection: &Connection, sql: &str) -> Result<Affected, String> {
    let before = connection.total_changes();
    let mut batch = Batch::new(connection, sql);
    let mut statements = 0;
    while let Some(mut statement) = batch.next().map_err(|error| message(&error))? {
        let mut rows = statement.query([]).map_err(|error| message(&error))?;
        while rows.next().map_err(|error| message(&error))?.is_some() {}
        statements += 1;
    }
    Ok(Affected { rows_affected: connection.total_changes().saturating_sub(before), statements })
}

/// Blobs have no place in JSON: their hexadecimal digits stand for them.
fn json(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(number) => number.into(),
        ValueRef::Real(number) => number.into(),
        ValueRef::Text(text) => String::from_utf8_lossy(text).into(),
        ValueRef::Blob(bytes) => crate::domain::json::hex(bytes).into(),
    }
}

/// What SQLite says, without the wrapping of its driver.
fn message(error: &rusqlite::Error) -> String {
    match error {
        rusqlite::Error::SqliteFailure(_, Some(text)) => text.clone(),
        rusqlite::Error::SqlInputError { msg, offset, .. } => format!("{msg} (at byte {offset})"),
        rusqlite::Error::MultipleStatement => String::from("one statement at a time"),
        other => other.to_string(),
    }
}
