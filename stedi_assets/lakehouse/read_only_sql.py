"""Which SQL `stedi query` runs: one statement that reads the eight tables and nothing else.

What runs is what was checked: the text is first written in the one way that the parser here and
the engines read alike, without comments, and each string and quoted name in its plainest form.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, NoReturn

from stedi_assets.errors import StediError
from stedi_assets.tables.schemas import TABLES

if TYPE_CHECKING:
    from sqlglot import Token, exp

# In a FROM clause a function may read files (`read_files`), other tables (`table_changes`) or run
# SQL: only those that make rows of their own arguments are taken.
TABLE_FUNCTIONS = frozenset(
    {"explode", "explode_outer", "inline", "inline_outer", "posexplode", "posexplode_outer"}
    | {"json_tuple", "range", "sequence", "stack", "unnest"}
)
# Functions that reach beyond their arguments: code of the JVM, files, networks, secrets, or a
# function by a name that is computed.
REFUSED_FUNCTIONS = frozenset(
    {"java_method", "reflect", "try_reflect", "identifier", "from_protobuf", "to_protobuf"}
    | {"read_csv", "read_files", "read_json", "read_parquet", "read_kafka", "secret", "try_secret"}
    | {"ai_query", "http_request", "remote_query", "load_file", "getvariable"}
)


@dataclass(frozen=True)
class ReadOnlyQuery:
    """A checked query: the tables that it names, its text in Spark's SQL, and its syntax tree."""

    tables: tuple[str, ...]
    text: str
    tree: "exp.Expr"

    def translated(self, dialect: str) -> str:
        """The query in another dialect that sqlglot knows, such as `athena`."""
        # Quoted, a column stays a column: on Athena `user` alone would be who asks.
        return self.tree.sql(dialect=dialect, identify=True)


def parse_query(sql: str) -> ReadOnlyQuery:
    """Parse a query in Spark's SQL.

    Raises:
        StediError: it is not one query, or it reads or does something else: which, in one line.
    """
    from sqlglot import exp

    text = _plain_text(sql)
    tree = _parse(text)
    if not isinstance(tree, exp.Query | exp.Values):
        _refuse("it is not a query (SELECT, WITH, VALUES): the tables are read-only")
    changing = tree.find(exp.DML, exp.DDL, exp.Command, exp.Into, exp.QueryTransform)
    if changing is not None and not isinstance(changing, exp.Query):
        _refuse(f"{changing.key.upper()} is not reading: the tables are read-only")
    if tree.find(exp.Qualify):  # no engine here knows it, and its translation loses LIMIT's place
        _refuse("QUALIFY is not known here: filter a subquery's column with WHERE")
    if tree.find(exp.Version):
        _refuse("it asks for an older version of a table: tables are read as they are now")
    names = {_table_name(table) for table in tree.find_all(exp.Table)}
    for lateral in tree.find_all(exp.Lateral):
        if not isinstance(lateral.this, exp.Query | exp.Subquery):
            _check_table_function(lateral.this)
    _check_functions(text)
    return ReadOnlyQuery(tuple(name for name in TABLES if name in names), text, tree)


def _refuse(why: str) -> NoReturn:
    raise StediError(f"The query was not run: {why}.")


def _plain_text(sql: str) -> str:
    """The text without comments and hints, its strings and quoted names in their plainest form."""
    parts: list[str] = []
    end = -1
    for token in _tokens(sql):
        if token.start <= end:  # a number's suffix (1L) is a token of the same text
            continue
        kind = token.token_type.name
        if kind in ("STRING", "RAW_STRING"):
            escaped = token.text.replace("\\", "\\\\").replace("'", "\\'")
            part = f"'{escaped}'"
        elif kind == "IDENTIFIER":
            part = "`" + token.text.replace("`", "``") + "`"
        elif kind.endswith("_STRING") and kind != "HEX_STRING":
            _refuse(f"it has a string of an unusual kind, {sql[token.start : token.end + 1]}")
        else:
            part = "" if kind == "HINT" else sql[token.start : token.end + 1]
        parts += [" " if token.start > end + 1 else "", part]
        end = token.end
    return "".join(parts).strip().rstrip("; ")


def _tokens(sql: str) -> "list[Token]":
    import sqlglot
    from sqlglot.errors import SqlglotError

    try:
        return sqlglot.tokenize(sql, read="spark")
    except SqlglotError:
        _refuse("it cannot be read as SQL (a quote or a comment may not be closed)")


def _parse(sql: str) -> "exp.Expr":
    """The one statement of a text; StediError where there is none, or more, or no SQL."""
    import sqlglot
    from sqlglot.errors import SqlglotError

    logging.getLogger("sqlglot").setLevel(logging.ERROR)  # it warns of what is refused here
    try:
        statements = [
            statement for statement in sqlglot.parse(sql, dialect="spark") if statement is not None
        ]
    except (SqlglotError, RecursionError) as error:
        place = (getattr(error, "errors", None) or [{}])[0]
        where = f" at line {place['line']}, column {place['col']}" if place.get("line") else ""
        _refuse(f"it cannot be read as SQL{where} ({place.get('description', 'syntax error')})")
    if len(statements) != 1:
        _refuse(f"it is {len(statements)} statements, not one")
    return statements[0]


def _table_name(table: "exp.Table") -> str | None:
    """The name of the table of the lake that a syntax node reads; None where it reads no table."""
    from sqlglot import exp

    if not isinstance(table.this, exp.Identifier):
        _check_table_function(table.this)
        return None
    name = table.name.lower()
    if not table.db and not table.catalog and (_is_cte(table, name) or name in TABLES):
        return name
    shown = ".".join(part.sql(dialect="spark") for part in table.parts)
    _refuse(f"it reads {shown}, which is none of the tables {', '.join(TABLES)}")


def _is_cte(table: "exp.Table", name: str) -> bool:
    """Whether a name is that of a WITH query which is known where it stands."""
    from sqlglot import exp

    child: exp.Expr = table
    parent = table.parent
    while parent is not None:
        known: Sequence[exp.Expr] = []
        if isinstance(parent, exp.With):
            position = parent.expressions.index(child)
            known = parent.expressions[: position + bool(parent.args.get("recursive"))]
        elif isinstance(parent, exp.Query) and not isinstance(child, exp.With):
            known = parent.ctes
        if any(cte.alias.lower() == name for cte in known):
            return True
        child, parent = parent, parent.parent
    return False


def _check_table_function(function: "exp.Expr") -> None:
    from sqlglot import exp

    name = function.sql_name() if isinstance(function, exp.Func) else function.key
    name = function.name if isinstance(function, exp.Anonymous) else name
    if name.lower() not in TABLE_FUNCTIONS:
        _refuse(f"it reads from {name}(…), which is none of the tables {', '.join(TABLES)}")


def _check_functions(sql: str) -> None:
    """StediError where a query calls a function that reaches beyond its arguments."""
    if "${" in sql:  # Spark would put variables of its process there, keys among them
        _refuse("`${` is replaced by the engine's settings and environment")
    for token, following in pairwise(_tokens(sql)):
        if following.token_type.name == "L_PAREN" and token.text.lower() in REFUSED_FUNCTIONS:
            _refuse(f"the function {token.text.lower()} reaches beyond the tables")
