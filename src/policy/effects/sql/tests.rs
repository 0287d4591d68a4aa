//! SQL and what it would do.

use super::*;

fn certain(text: &str) -> Effects {
    super::certain(text, &mut Effort::full())
}

fn possible(text: &str) -> Effects {
    super::possible(text, &mut Effort::full())
}

fn effects(text: &str) -> Vec<String> {
    certain(text).names().into_iter().map(|name| name.trim_start_matches("sql.").to_owned()).collect()
}

#[track_caller]
fn check(cases: &[(&str, &str)]) {
    for (text, expected) in cases {
        assert_eq!(effects(text).join(" "), *expected, "{text}");
    }
}

#[test]
fn statements_do_what_they_say() {
    check(&[
        ("SELECT 1", "read"),
        ("select * from users where id = 1;", "read"),
        ("SELECT * FROM a JOIN b USING (id) WHERE a.x IN (SELECT y FROM c)", "read"),
        ("VALUES (1), (2)", "read"),
        ("SHOW TABLES", "read"),
        ("DESCRIBE users", "read"),
        ("EXPLAIN SELECT 1", "read"),
        ("INSERT INTO t (a) VALUES (1)", "write"),
        ("INSERT INTO t SELECT * FROM u", "read write"),
        ("INSERT INTO t (a) VALUES (1) RETURNING id", "read write"),
        ("REPLACE INTO t VALUES (1)", "delete write"),
        ("UPDATE t SET a = 1 WHERE id = 2", "write"),
        ("UPDATE t SET a = 1", "update_all write"),
        ("DELETE FROM t WHERE id = 1", "delete write"),
        ("DELETE FROM t", "delete delete_all write"),
        ("DELETE FROM t WHERE 1 = 1", "delete delete_all write"),
        ("DELETE FROM t WHERE true", "delete delete_all write"),
        ("DELETE FROM t WHERE id = 1 OR 1 = 1", "delete delete_all write"),
        ("DELETE FROM t WHERE (id = id)", "delete delete_all write"),
        ("DELETE FROM t WHERE id = 1 AND 1 = 1", "delete write"),
        ("DELETE FROM t WHERE id = $1", "delete write"),
        ("TRUNCATE TABLE t", "truncate write"),
        ("truncate t cascade", "truncate write"),
        ("DROP TABLE t", "drop write"),
        ("drop table if exists a, b cascade", "drop write"),
        ("DROP DATABASE prod", "drop write"),
        ("DROP SCHEMA public CASCADE", "drop write"),
        ("DROP VIEW v", "drop write"),
        ("DROP INDEX i", "drop write"),
        ("DROP FUNCTION f(int)", "drop write"),
        ("DROP USER bob", "drop grant write"),
        ("ALTER TABLE t ADD COLUMN a int", "alter write"),
        ("ALTER TABLE t DROP COLUMN a", "alter drop write"),
        ("CREATE TABLE t (a int)", "create write"),
        ("CREATE TABLE t AS SELECT * FROM u", "create read write"),
        ("CREATE OR REPLACE TABLE t (a int)", "create drop write"),
        ("CREATE VIEW v AS SELECT 1", "create read write"),
        ("CREATE INDEX i ON t (a)", "create write"),
        ("GRANT ALL ON t TO bob", "grant write"),
        ("REVOKE SELECT ON t FROM bob", "grant write"),
        ("CALL refund(1)", "execute"),
        ("EXECUTE plan(1)", "execute"),
        ("COPY t FROM '/tmp/x'", "other write"),
        ("COPY t TO STDOUT", "read"),
        ("COPY t TO PROGRAM 'curl evil'", "execute read"),
        ("BEGIN", "session"),
        ("BEGIN; UPDATE t SET a = 1 WHERE id = 1; COMMIT", "session write"),
        ("PRAGMA table_info(users)", "read"),
        ("PRAGMA journal_mode = DELETE", "other"),
        ("PRAGMA writable_schema(1)", "other"),
        ("PRAGMA user_version", "read"),
        ("SET ROLE admin", "other"),
        ("VACUUM", "other"),
        ("ATTACH DATABASE 'x.db' AS x", "other"),
        ("MERGE INTO t USING u ON t.id = u.id WHEN MATCHED THEN DELETE", "delete write"),
        ("KILL 5", "other"),
    ]);
}

#[test]
fn what_hides_is_found() {
    check(&[
        ("SELECT 1; DROP TABLE t", "drop read write"),
        ("SELECT 1;;;DROP TABLE t;;", "drop read write"),
        ("dRoP/**/tAbLe/* x */t", "drop write"),
        ("-- a comment\nDROP TABLE t", "drop write"),
        ("/* SELECT 1 */ DROP TABLE t", "drop write"),
        ("WITH x AS (DELETE FROM t RETURNING *) SELECT * FROM x", "delete delete_all read write"),
        ("WITH x AS (INSERT INTO t VALUES (1) RETURNING id) SELECT * FROM x", "read write"),
        ("WITH x AS (UPDATE t SET a = 1 RETURNING *) SELECT 1", "read update_all write"),
        ("WITH x AS (SELECT 1) DELETE FROM t WHERE id IN (SELECT * FROM x)", "delete read write"),
        ("SELECT * INTO backup FROM users", "create read write"),
        ("EXPLAIN DELETE FROM t", "read"),
        ("EXPLAIN ANALYZE DELETE FROM t", "delete delete_all read write"),
        ("EXPLAIN (ANALYZE) DELETE FROM t", "delete delete_all read write"),
        ("EXPLAIN (ANALYZE true, VERBOSE) DELETE FROM t", "delete delete_all read write"),
        ("EXPLAIN QUERY PLAN SELECT 1", "read"),
        ("EXPLAIN DROP TABLE t; DROP TABLE t", "drop read write"),
        ("PREPARE p AS DELETE FROM t", "delete delete_all other write"),
        ("SELECT pg_read_file('/etc/passwd')", "execute read"),
        ("SELECT a FROM t WHERE b = (SELECT pg_terminate_backend(1))", "execute read"),
        ("SELECT * FROM dblink('host=x', 'DROP TABLE t') AS t(a int)", "execute read"),
        ("SELECT * FROM pg_ls_dir('/')", "execute read"),
        ("SELECT query_to_xml('DROP TABLE t', true, true, '')", "execute read"),
        ("SELECT LOAD_FILE('/etc/passwd')", "execute read"),
        ("SELECT utl_http.request('http://x')", "execute read"),
        ("SELECT nextval('s')", "read write"),
        // MySQL runs what stands in these comments.
        ("/*! DROP TABLE t */", "drop write"),
        ("/*!50000 DROP TABLE t */", "drop write"),
        ("/*M! DROP TABLE t */", "drop write"),
        ("/*M!100100 DROP TABLE t */", "drop write"),
        ("SELECT 1; /*!50000 DROP TABLE t */", "drop read write"),
        // Strings that only look like statements.
        ("SELECT 'DROP TABLE t'", "read"),
        ("SELECT '; DROP TABLE t; --'", "read"),
        ("SELECT \"DROP TABLE t\" FROM u", "read"),
        ("INSERT INTO log (text) VALUES ('DELETE FROM t')", "write"),
    ]);
}

#[test]
fn every_dialect_counts_where_they_disagree() {
    // A backslash ends a string in standard SQL and escapes the quote in MySQL.
    assert!(certain(r"SELECT '\'; DROP TABLE t; --'").has(Effect::SqlDrop));
    // A `#` begins a comment in MySQL only; `--` without a space does not.
    assert!(certain("SELECT 1 # ; \n ; DROP TABLE t").has(Effect::SqlDrop));
    assert!(certain("SELECT 1--1; DROP TABLE t").has(Effect::SqlDrop));
    // Comments nest in PostgreSQL and do not in MySQL and SQLite.
    assert!(certain("SELECT 1 /* /* */; DROP TABLE t; -- */ */").has(Effect::SqlDrop));
    // A dollar quote hides in PostgreSQL only.
    assert!(certain("SELECT $$ ; DROP TABLE t; $$").has(Effect::SqlRead));
    // The statements before a fault are run by most drivers.
    assert!(certain("DROP TABLE t; what is this").has(Effect::SqlDrop));
    assert!(certain("DROP TABLE t; 'never closed").has(Effect::SqlDrop));
}

#[test]
fn what_does_not_parse_says_so() {
    for text in [
        "what is this",
        "DROP",
        "SELECT * FROM",
        "SELECT 'never closed",
        "SELECT 1 DROP TABLE t",
        "DO $$ BEGIN DROP TABLE t; END $$",
        "-- only a comment",
        ";",
        "SELECT 1; END; DROP TABLE t WITH what",
        "\u{0}",
    ] {
        assert!(certain(text).has(Effect::SqlUnparsed), "{text}: {:?}", effects(text));
    }
    assert_eq!(certain("  \n ").names(), Vec::<&str>::new());
    // `END` ends the reader's own loop over statements, not ours.
    assert!(certain("SELECT 1 END DROP TABLE t").has(Effect::SqlUnparsed));
}

#[test]
fn free_text_is_not_sql() {
    for text in [
        "",
        "select",
        "drop",
        "how do I drop a table in postgres?",
        "drop table",
        "select best laptop",
        "select a good restaurant in Rome",
        "show me all tables",
        "show tables",
        "use caution",
        "delete old files",
        "delete user account",
        "update user profile",
        "create a table design",
        "insert coin",
        "call mom",
        "execute order",
        "explain recursion",
        "describe the architecture",
        "set theory",
        "table mountain",
        "begin",
        "commit",
        "close account",
        "fetch news",
        "kill process",
        "with great power comes great responsibility",
        "from paris to london",
        "values",
        "project = TG AND status = Open",
        "query { viewer { login } }",
        "repo:rust-lang/rust is:issue",
        "日本語の検索",
        "drop table?",
        "drop table: how",
        "drop shipping; is it worth it",
        "drop the table users; why",
        "drop me a line",
        "alter ego",
        "truncate long text in css",
        "delete from users' lists",
        "select best laptop; and a bag",
        "show me tables; and chairs",
        "update user profile; then log out",
        "\u{feff}select best laptop",
    ] {
        assert_eq!(possible(text).names(), Vec::<&str>::new(), "{text}");
    }
}

#[test]
fn sql_where_a_query_is_asked_for_counts() {
    for (text, effect) in [
        ("SELECT * FROM users", Effect::SqlRead),
        ("select count(*)", Effect::SqlRead),
        ("drop table users", Effect::SqlDrop),
        ("TRUNCATE users", Effect::SqlTruncate),
        ("/* hi */ drop table users", Effect::SqlDrop),
        ("/* /* */ x */ drop table users", Effect::SqlDrop),
        ("(select 1)", Effect::SqlRead),
        ("delete from users", Effect::SqlDeleteAll),
        ("begin; drop table users; commit", Effect::SqlDrop),
        ("show tables; drop table users", Effect::SqlDrop),
        ("explain analyze delete from users", Effect::SqlDelete),
        ("with x as (select 1) select * from x", Effect::SqlRead),
        ("call refund(1)", Effect::SqlExecute),
    ] {
        assert!(possible(text).has(effect), "{text}: {:?}", possible(text).names());
    }
    // Too long to read is not free text any more.
    let padded = format!("/*{}*/ DROP TABLE t", "x".repeat(MAX_BYTES));
    assert!(possible(&padded).has(Effect::SqlUnparsed));
}

#[test]
fn sql_that_breaks_off_is_sql_nevertheless() {
    for (text, expected) in [
        ("DROP TABLE users; x", "sql.drop sql.unparsed sql.write"),
        ("begin; DROP TABLE users; x", "sql.drop sql.session sql.unparsed sql.write"),
        ("DELETE FROM users; x", "sql.delete sql.delete_all sql.unparsed sql.write"),
        ("INSERT INTO t VALUES ('a;b'); what", "sql.unparsed sql.write"),
        ("UPDATE t SET a = 1; what", "sql.unparsed sql.update_all sql.write"),
        ("GRANT ALL ON t TO bob; what", "sql.grant sql.unparsed sql.write"),
        ("TRUNCATE users; what", "sql.truncate sql.unparsed sql.write"),
        ("DROP TABLE users; 'never closed", "sql.drop sql.unparsed sql.write"),
        ("DROP TABLE users /*", "sql.drop sql.unparsed sql.write"),
        ("DELETE FROM users /* x", "sql.delete sql.delete_all sql.unparsed sql.write"),
        ("DROP DATABASE x WITH (FORCE)", "sql.drop sql.unparsed sql.write"),
        ("DROP TABLE users CASCADE CONSTRAINTS PURGE", "sql.drop sql.unparsed sql.write"),
        ("DROP OWNED BY x", "sql.drop sql.unparsed sql.write"),
        ("DROP TABLESPACE x", "sql.drop sql.unparsed sql.write"),
        ("DROP FOREIGN TABLE f", "sql.drop sql.unparsed sql.write"),
        ("DROP PUBLICATION x", "sql.drop sql.unparsed sql.write"),
        ("DROP EVENT x", "sql.drop sql.unparsed sql.write"),
        ("select 1; DROP EVENT x", "sql.drop sql.read sql.unparsed sql.write"),
        ("/* a */ -- b\n drop/**/event x", "sql.drop sql.unparsed sql.write"),
        ("/*! DROP EVENT x; */ SELECT 1", "sql.drop sql.read sql.write"),
        ("TRUNCATE TABLE t DROP STORAGE what", "sql.truncate sql.unparsed sql.write"),
        ("ALTER TABLE t REBUILD what PARTITION", "sql.alter sql.unparsed sql.write"),
        ("ALTER TABLE t WITH what DROP PARTITION p", "sql.alter sql.drop sql.unparsed sql.write"),
        ("DROP USER bob@localhost what ever", "sql.drop sql.grant sql.unparsed sql.write"),
        ("\u{feff}DROP TABLE users", "sql.drop sql.write"),
        ("\u{feff} DROP EVENT x", "sql.drop sql.unparsed sql.write"),
        ("ALTER TABLE t ALTER COLUMN a DROP NOT NULL", "sql.alter sql.write"),
    ] {
        assert_eq!(possible(text).names().join(" "), expected, "{text}");
        assert_eq!(certain(text), possible(text), "{text}");
    }
}

#[test]
fn a_large_list_of_rows_parses() {
    let rows = (0..1500).map(|n| format!("({n}, 'name {n}', NULL)")).collect::<Vec<_>>().join(", ");
    assert_eq!(effects(&format!("INSERT INTO t (a, b, c) VALUES {rows}")), ["write"]);
}

/// Texts made to be slow or deep. The time is not measured here: without the limits these do not end, or overflow.
#[test]
fn hostile_texts_end() {
    let hostile = [
        "(".repeat(60_000),
        format!("SELECT {}1{}", "(".repeat(24), ")".repeat(24)),
        format!("SELECT * FROM {}t{}", "(".repeat(24), ")".repeat(24)),
        format!("SELECT * FROM {}", "(".repeat(24)),
        format!("SELECT {}", "(SELECT ".repeat(24)),
        format!("SELECT {}", "CASE WHEN ".repeat(2000)),
        format!("SELECT {}", "NOT ".repeat(4000)),
        format!("SELECT {}", "- ".repeat(4000)),
        format!("SELECT 1{}", "+1".repeat(4000)),
        format!("SELECT 1{}", "+1".repeat(30_000)),
        format!("SELECT 1{}", "||1".repeat(4000)),
        format!("SELECT x{}", " AND x".repeat(2000)),
        format!("SELECT x{}", "::int".repeat(1300)),
        format!("SELECT x{}", " IS NULL".repeat(2000)),
        format!("SELECT 1{}", " UNION SELECT 1".repeat(2000)),
        format!("SELECT * FROM t{}", " JOIN t".repeat(2000)),
        format!("SELECT * FROM t{}", ", LATERAL (SELECT 1)".repeat(1300)),
        format!("SELECT a{}", ".a".repeat(2000)),
        format!("SELECT a{}", "[1]".repeat(4000)),
        format!("SELECT {}1{}", "f(".repeat(24), ")".repeat(24)),
        format!("SELECT {}", "f(".repeat(24)),
        format!("SELECT {}", "ARRAY[".repeat(24)),
        format!("SELECT {}", "STRUCT<".repeat(3000)),
        format!("CREATE TABLE t (a {}int", "ARRAY<".repeat(3000)),
        format!("CREATE TABLE t (a {}int", "MAP(".repeat(24)),
        format!("{}SELECT 1", "EXPLAIN ".repeat(4000)),
        "IF SELECT ".repeat(400),
        "IF NOT ".repeat(400),
        format!("SELECT * FROM {}", "SELECT JOIN ".repeat(400)),
        format!("SELECT * FROM t{}", " JOIN t".repeat(128)),
        format!("SELECT{}", " NOT LIKE".repeat(500)),
        "CASE + ".repeat(500),
        format!("WITH {} SELECT 1", "a AS (SELECT 1),".repeat(800)),
        format!("SELECT {}", "INTERVAL ".repeat(4000)),
        format!("SELECT {}", "a BETWEEN ".repeat(2000)),
        format!("SELECT 1 FROM a {}", "PIVOT(".repeat(24)),
        "SELECT 1;".repeat(1300),
        "/*".repeat(30_000),
        "$a".repeat(30_000),
        "'".repeat(65_000),
    ];
    for text in &hostile {
        let _effects = certain(text);
        let _effects = possible(text);
    }
}

mod properties {
    use proptest::prelude::*;

    use super::*;

    const STATEMENTS: &[&str] = &[
        "SELECT 1",
        "SELECT * FROM t WHERE a = 'x;y'",
        "DELETE FROM t",
        "UPDATE t SET a = 1 WHERE id = 1",
        "DROP TABLE t",
        "INSERT INTO t VALUES (1)",
        "CREATE TABLE t (a int)",
        "TRUNCATE TABLE t",
        "GRANT ALL ON t TO bob",
        "BEGIN",
        "VACUUM",
    ];

    proptest! {
        #[test]
        fn another_statement_takes_nothing_away(
            first in proptest::sample::select(STATEMENTS),
            second in proptest::sample::select(STATEMENTS),
            between in "[ \n]{0,3};[ \n;]{0,3}(/\\* x \\*/)?",
        ) {
            let both = certain(&format!("{first}{between}{second}"));
            prop_assert_eq!(both, certain(first) | certain(second));
        }

        #[test]
        fn any_text_gives_an_answer(text in "\\PC{0,200}") {
            let _effects = certain(&text);
            let _effects = possible(&text);
        }

        #[test]
        fn any_text_of_sql_pieces_gives_an_answer(
            pieces in proptest::collection::vec(proptest::sample::select(&[
                "SELECT", "FROM", "(", ")", "a", "1", "'x'", "WITH", "AS", ",", ";", "--", "/*", "*/", "\n", "DROP",
                "TABLE", "DELETE", "INSERT", "INTO", "VALUES", "CASE", "WHEN", "THEN", "END", "JOIN", "ON", "=", "NOT",
                "\\", "$$", "`", "\"", "[", "]", "{", "}", "CREATE", "FUNCTION", "IF", "BEGIN", "EXPLAIN", "ANALYZE",
            ][..]), 0..60),
        ) {
            let text = pieces.join(" ");
            let _effects = possible(&text);
            prop_assert!(text.trim().is_empty() || !certain(&text).is_empty());
        }
    }
}
