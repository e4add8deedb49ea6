"""Queries on Athena, for `stedi query --engine athena`."""

import re
from typing import TYPE_CHECKING

from stedi_assets.errors import StediError

if TYPE_CHECKING:
    import pyarrow

# Messages about the statement. Others (a failed cast) may quote a row.
_ABOUT_THE_STATEMENT = re.compile(
    r"((SYNTAX_ERROR|COLUMN_NOT_FOUND|TABLE_NOT_FOUND|SCHEMA_NOT_FOUND|FUNCTION_NOT_FOUND"
    r"|TYPE_MISMATCH): )?line \d+:\d+: "
)


def run_athena_query(sql: str, *, workgroup: str, database: str, region: str) -> "pyarrow.Table":
    """Run a query on Athena and fetch its rows.

    Args:
        sql: one statement; Athena only reads Delta tables, so nothing it does writes to them.
        workgroup: the Athena workgroup, which says where results are kept.
        database: the Glue database of the tables.
        region: the AWS region of both.

    Raises:
        StediError: pyathena is not installed, the keys are refused, or the query fails. Athena's
            message is shown where it is about the statement; another may quote a row.
    """
    import pyarrow

    try:
        import pyathena
    except ImportError:
        raise StediError(
            "Queries on Athena need pyathena: pip install 'stedi_assets[aws]'."
        ) from None
    from botocore.exceptions import BotoCoreError, ClientError

    query_id = None
    try:
        connection = pyathena.connect(
            work_group=workgroup, schema_name=database, region_name=region
        )
        with connection.cursor() as cursor:
            try:
                cursor.execute(sql)
                rows = cursor.fetchall()
            finally:
                query_id = cursor.query_id
            names = [column[0] for column in cursor.description or ()]
            columns = zip(*rows, strict=True) if rows else [()] * len(names)
            return pyarrow.Table.from_arrays([*map(pyarrow.array, columns)], names)
    except (pyathena.Error, BotoCoreError, ClientError) as error:
        if _ABOUT_THE_STATEMENT.match(str(error)):
            raise StediError(f"The query does not run: {error}") from None
        raise StediError(
            f"Athena did not answer ({type(error).__name__}, query {query_id}): look it up in the"
            f" history of workgroup {workgroup}, and check STEDI_ATHENA_WORKGROUP,"
            " STEDI_GLUE_DATABASE and AWS_REGION."
        ) from None
