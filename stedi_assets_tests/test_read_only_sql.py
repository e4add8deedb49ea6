"""What `stedi query` runs: one query over the eight tables, and nothing that reaches further."""

import pytest

from stedi_assets.errors import StediError
from stedi_assets.lakehouse.read_only_sql import parse_query

READING = [
    ("SELECT * FROM customer_landing", "customer_landing"),
    ("select email from Customer_Landing -- as it landed", "customer_landing"),
    ("(SELECT 1) UNION ALL (SELECT count(*) FROM `customers_curated`);", "customers_curated"),
    ("WITH x AS (SELECT * FROM customer_trusted) SELECT * FROM x", "customer_trusted"),
    ("WITH a AS (SELECT 1 AS n), b AS (SELECT n FROM a) SELECT * FROM b JOIN a USING (n)", ""),
    ("WITH RECURSIVE c AS (SELECT 1 n UNION ALL SELECT n + 1 FROM c) SELECT * FROM c", ""),
    ("SELECT 1 WHERE 2 IN (WITH q AS (SELECT 2) SELECT * FROM q)", ""),
    ("VALUES (1, 2)", ""),
    ("SELECT /*+ BROADCAST(c) */ 1 FROM customer_trusted c, range(3)", "customer_trusted"),
    ("SELECT d FROM customer_landing LATERAL VIEW explode(array(1)) t AS d", "customer_landing"),
    ("SELECT 'INSERT INTO x', \"text.`/etc/passwd`\" FROM customer_landing", "customer_landing"),
    ("FROM customer_landing SELECT email", "customer_landing"),
]


@pytest.mark.parametrize(("sql", "table"), READING)
def test_a_query_over_the_tables_is_taken_with_the_tables_that_it_names(sql, table):
    assert parse_query(sql).tables == ((table,) if table else ())


@pytest.mark.parametrize(
    ("sql", "why"),
    [
        ("", "0 statements"),
        ("SELECT 1; SELECT 2", "2 statements"),
        ("SELEC 1 FRM", "cannot be read as SQL|is not a query"),
        ("SELECT (1", "cannot be read as SQL at line 1"),
        ("DROP TABLE customer_landing", "read-only"),
        ("SET spark.sql.ansi.enabled=false", "read-only"),
        ("EXECUTE IMMEDIATE 'SELECT 1'", "read-only"),
        ("INSERT /**/ OVERWRITE DIRECTORY '/tmp/x' SELECT 1", "read-only"),
        ("WITH x AS (SELECT 1) INSERT INTO customer_landing SELECT * FROM x", "read-only"),
        ("WITH x AS (SELECT 1) INSERT /**/ OVERWRITE DIRECTORY '/tmp/x' SELECT *", "read-only"),
        ("FROM customer_landing INSERT INTO customer_trusted SELECT *", "read-only"),
        ("SELECT TRANSFORM(email) USING 'cat' AS (e) FROM customer_landing", "is not reading"),
        ("SELECT * FROM text.`/etc/passwd`", "it reads text.`/etc/passwd`, which is none"),
        ("SELECT * FROM json.`s3://b/landing/customer/`", "which is none of the tables"),
        ("SELECT * FROM delta.`s3://b/x` VERSION AS OF 1", "older version"),
        ("SELECT * FROM delta.`s3://b/x`", "which is none of the tables"),
        ("SELECT (SELECT first(value) FROM text.`/x`) FROM customer_landing", "which is none"),
        ("SELECT * FROM customer_landing a JOIN text.`/x` a", "which is none of the tables"),
        ("SELECT * FROM other", "it reads other, which is none"),
        ("SELECT * FROM spark_catalog.default.customer_landing", "which is none of the tables"),
        ("SELECT * FROM (WITH q AS (SELECT 1) SELECT * FROM q) JOIN q", "it reads q, which is"),
        ("WITH a AS (SELECT * FROM b), b AS (SELECT 1) SELECT * FROM a", "it reads b, which is"),
        ("WITH text AS (SELECT 1) SELECT * FROM text.`/x`", "which is none of the tables"),
        ("SELECT * FROM read_files('/etc/passwd')", r"it reads from read_files\(…\)"),
        ("SELECT * FROM customer_landing, LATERAL read_files('/x')", r"from read_files\(…\)"),
        ("SELECT * FROM table_changes('customer_landing', 0)", r"from table_changes\(…\)"),
        ("SELECT * FROM IDENTIFIER('text.`/etc/passwd`')", r"(?i)from identifier\(…\)"),
        ("SELECT java_method('java.lang.System', 'getenv', 'X')", "function java_method"),
        ("SELECT `reflect`('java.lang.System', 'getenv', 'X')", "function reflect"),
        ("SELECT system.builtin.Try_Reflect('a', 'b')", "function try_reflect"),
        ("SELECT email FROM customer_landing QUALIFY row_number() OVER () = 1", "QUALIFY"),
        ("SELECT 'open", "may not be closed"),
        ("SELECT N'a'", "unusual kind"),
        ("SELECT '${env:AWS_SECRET_ACCESS_KEY}'", "environment"),
    ],
)
def test_anything_else_is_refused_in_one_line(sql, why):
    with pytest.raises(StediError, match=why) as error:
        parse_query(sql)
    assert "\n" not in str(error.value)


def test_what_runs_has_no_comments_and_strings_that_all_engines_read_alike():
    query = parse_query(
        "SELECT/*+ BROADCAST(c) */ r'\d', \"a'b\", 'it\\'s', .5, 1L -- text.`/x`\n"
        "/* AS t, /* nested */ text.`/x` */ FROM `customer_landing` c LIMIT 1"
    )
    assert query.text == (
        r"SELECT '\\d', 'a\'b', 'it\'s', .5, 1L FROM `customer_landing` c LIMIT 1"
    )
    assert query.tables == ("customer_landing",)


def test_a_query_is_translated_for_athena():
    query = parse_query("SELECT datediff(ingest_date, '2022-06-18') FROM customer_landing")
    assert "DATE_DIFF('DAY'" in query.translated("athena")
    query = parse_query("SELECT user FROM accelerometer_trusted")
    assert query.translated("athena") == 'SELECT "user" FROM "accelerometer_trusted"'
