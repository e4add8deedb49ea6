"""The words that engines use of themselves: all that may be shown of their messages."""

import functools
import re

# Beside the words of pyspark's own error conditions: those of DataFusion, Arrow, Delta and S3.
_LOWER = """
a an and another any are as at be been before but by can cannot could did do does for from has have
if in into is it its more no not of on only or other out same than that the their there this to
unexpected until was were when where which while with within without

access action actions add address aggregate already append array arrow async attempt attempts batch
batches because begin being bigint binary body boolean bucket buffer byte bytes cache call cast
catalog change changed check checkpoint checksum child client close closed collect column columns
commit commits committed computation compute concurrent condition conflict conflicts connect
connection conversion convert corrupt count create created credentials data database datafusion date
dates deadline decimal decode decompress default delete deleted delta deserialize detected device
directory disk double downcast dropped duplicate during empty encode end entry error errors exceeded
execute execution executor exhausted exist existing exists expected expression external fail failed
fetch field fields file files filter final find finished float folder footer format found function
generic get given group gzip handshake header host http https id identifier index input insert
inside int integer internal interrupted invalid io iterator join json kernel key kind large latest
left length less level limit line list listing literal load local location lock log logical lost
malformed memory merge message metadata method missing mode name names negative nested network null
nullable number object objects offset open operation operator option options order outside overflow
overwrite page panic panicked parallel parquet parse parser parsing partition partitions path peer
pending permission physical plan planning point policy pool precondition predicate prefix problem
process properties property protocol provided put query range reached read reader reading receive
received record records refused region rejected remote removed rename replace request requests
required reserve reset resolve resource resources response result retries retry returned root row
rows run runtime scalar scan schema seconds segment send server service session sets size snapshot
sort source space spill sql stack start state statistics status storage store stream string struct
subquery support supported system table tables task tasks temporary term thread time timed timeout
timestamp tls token too transaction transport tree type types unable unavailable underlying union
unique unknown unsupported update upload user utf value values version versions view window write
writer writing written wrong year zero zone
"""
_AS_WRITTEN = """
A An Arrow Attempt Binary Boolean Cannot Cast Commit Compute Connection Could Data DataFusion Date
Decimal Delta Deserialize Divide Double Duplicate Error Execution Expected External Failed Field
File Float32 Float64 Generic HTTP HTTPS IO Int16 Int32 Int64 Int8 Internal Invalid JSON Kernel
LargeUtf8 List Malformed Missing No NotFound Null Object ObjectStore Parquet Parser Permission Plan
Query Read Request Resources S3 SQL Schema Server Session Storage Stream Struct Table Task The
Timestamp Transaction Transport UDF UInt64 URI URL UTF-8 Unable Unexpected Unknown Unsupported Utf8
Utf8View Version Write gRPC i/o object_store versionAsOf replaceWhere
"""
_SHAPES = re.compile(
    r"0|[1-9]\d{0,2}(\.\d{1,3})?"  # small numbers; no birthday, time, phone or serial number
    r"|(customers?|accelerometer|step_trainer|machine_learning)_(landing|trusted|curated)"
    r"|ingest_date|[A-Z][A-Za-z]+(?:Error|Exception|Exec)"
)


def is_engine_word(word: str) -> bool:
    """Whether a word is one of the engines' own, and no value.

    Most count in lower case only: a capital would let names through that are words as well (Mark).
    """
    return bool(word in _words() or _SHAPES.fullmatch(word))


@functools.cache
def _words() -> frozenset[str]:
    from pyspark.errors.error_classes import ERROR_CLASSES_JSON

    own = {*_LOWER.split(), *_AS_WRITTEN.split()}
    return frozenset(own | set(re.findall(r"[a-z]{2,}", ERROR_CLASSES_JSON)))
