"""Landed objects with every odd case that the contract names, generated from a seed."""

import bz2
import gzip
import json
import lzma
import random
from datetime import date

DATES = [date(2022, 6, 18), date(2022, 6, 19), date(2022, 6, 21)]
T0 = 1_655_564_400_000

ODD_LINES = {
    "customer": [
        '{"email":"a@example.com","serialNumber":"s","registrationDate":"1","lastUpdateDate":1}',
        '{"email":"a@example.com","serialNumber":"s","registrationDate":1.0,"lastUpdateDate":1}',
        '{"email":"a@example.com","serialNumber":"s","registrationDate":1e3,"lastUpdateDate":1}',
        '{"email":"  \\t","serialNumber":"s","registrationDate":1,"lastUpdateDate":1}',
        '{"email":null,"serialNumber":"s","registrationDate":1,"lastUpdateDate":1}',
        '{"email":"a@example.com","serialNumber":["s"],"registrationDate":1,"lastUpdateDate":1}',
        '{"email":"num@example.com","serialNumber":17.50,"registrationDate":1,"lastUpdateDate":1,'
        '"phone":true,"customerName":null,"shareWithResearchAsOfDate":5}',
        '{"email":"opt@example.com","serialNumber":"s9","registrationDate":1,"lastUpdateDate":1,'
        '"shareWithFriendsAsOfDate":"7"}',
        '{"email":"big@example.com","serialNumber":"s8","registrationDate":1,'
        '"lastUpdateDate":9223372036854775807}',
        '{"email":"big@example.com","serialNumber":"s8","registrationDate":1,'
        '"lastUpdateDate":9223372036854775808}',
        '{"email":"esc\\u0061ped@example.com","serialNumber":"q\\"}{\\"","registrationDate":1,'
        '"lastUpdateDate":-0,"customerName":"\\ud800 half","other":{"deep":[1,{"a":2}]}}',
        '{"email":"ΑΣ@Example.com","serialNumber":"İ1","registrationDate":1,"lastUpdateDate":1}',
        '{"email":"\u00a0nb@example.com","serialNumber":"\u00a0","registrationDate":1,'
        '"lastUpdateDate":1,"customerName":"a, b \\\\"}',
        '{"Email":"case@example.com","serialNumber":"s","registrationDate":1,"lastUpdateDate":1}',
        "{'email':'single@example.com'}",
        '{"email":"cut@example.com","serialNu',
        '{"email":"zero@example.com","serialNumber":"z","registrationDate":1655564376361.0,'
        '"lastUpdateDate":-0.0,"shareWithResearchAsOfDate":1655564376361.000},',
        '{"email":"zero@example.com","serialNumber":"z","registrationDate":9007199254740992.0,'
        '"lastUpdateDate":12.0 },\t',
        '{"email":"a@example.com","serialNumber":"s","registrationDate":9007199254740993.0,'
        '"lastUpdateDate":1}',
        '{"email":"a@example.com","serialNumber":"s","registrationDate":1.50,"lastUpdateDate":1}',
        '{"email":"a@example.com","serialNumber":"s","registrationDate":1.0e0,"lastUpdateDate":1}',
        '{"email":"a@example.com","serialNumber":"s","registrationDate":"1.0","lastUpdateDate":1}',
        '{"email":"jose\u0301@example.com","serialNumber":"n","registrationDate":1,'
        '"lastUpdateDate":1,"shareWithResearchAsOfDate":1}',
        '{"email":"JOSÉ@example.com","serialNumber":"n","registrationDate":1,'
        '"lastUpdateDate":2,"shareWithResearchAsOfDate":3}',
        '{"email":"J̌ᾳ@example.com","serialNumber":"m","registrationDate":1,'
        '"lastUpdateDate":1,"shareWithResearchAsOfDate":1}',
        '{"email":"deep@example.com","serialNumber":"s","registrationDate":1,"lastUpdateDate":1,'
        '"more":' + "[" * 499 + "]" * 499 + "}",
        '{"email":"deeper@example.com","serialNumber":"s","registrationDate":1,"lastUpdateDate":1,'
        '"more":' + "[" * 500 + "]" * 500 + "}",
        "[1,2]",
        ",",
        "null",
        '"text"',
        "{}",
    ],
    "accelerometer": [
        '{"user":"p1@example.com","timeStamp":1655564400000,"x":1,"y":2,"z":3}',
        '{"user":"p1@example.com","timeStamp":5,"timestamp":1655564400001,"x":1,"y":2,"z":3}',
        '{"user":"p1@example.com","timeStamp":5,"timestamp":null,"x":1,"y":2,"z":3}',
        '{"user":"p1@example.com","timestamp":"1655564400000","x":1,"y":2,"z":3}',
        '{"user":"p1@example.com","timestamp":1655564400000,"x":"1","y":2,"z":3}',
        '{"user":"p1@example.com","timestamp":1655564400000,"x":NaN,"y":2,"z":3}',
        '{"user":"p1@example.com","timestamp":1655564400000,"x":1e400,"y":2,"z":3}',
        '{"user":"p1@example.com","timestamp":1655564400000,"x":-0.0,"y":-0,"z":0}',
        '{"user":"p1@example.com","timestamp":1655564400000,"x":0.0,"y":0,"z":-0e5}',
        '{"user":"p1@example.com","timestamp":1655564400000,"x":1.5e2,"y":2E-3,"z":3,"z":4}',
        '{"user":"p1@example.com","user":"p2@example.com","timestamp":1655564400002,"x":1,"y":2,'
        '"z":3}',
        '{"user":"p1@example.com","timestamp":1655564400003,"x":1,"y":2}',
        '{"user":"p1@example.com","timestamp":1655564400003,"x":01,"y":2,"z":3}',
        '{"user":"p1@example.com","timestamp":1655564400003,"x":1,"y":2,"z":3,}',
        '{"user":"p1@example.com","timestamp":1655564400004,"x":0.1,"y":123456789.123456789,'
        '"z":-1e-7} {"user":"p2@example.com","timestamp":1655564400004,"x":1,"y":2,"z":3}rest}{',
        '{"user":"p1@example.com","timestamp":1655564400005,"x":1,"y":2,"z":3} // comment',
        '\ufeff{"user":"p1@example.com","timestamp":1655564400006,"x":1,"y":2,"z":3}',
        '{ "user" : "p1@example.com" , "timestamp" : 1655564400007 , "x":1 ,"y":2,"z":3 } \t ',
        '\x0b{"user":"p1@example.com","timestamp":1655564400008,"x":1,"y":2,"z":3}',
        '{"user":"p1@example.com","timestamp":true,"x":1,"y":2,"z":3}',
        '{"user":"p1\ufffd@example.com","timestamp":1,"x":1,"y":2,"z":3}',
        '{"user":"tab\t@example.com","timestamp":1,"x":1,"y":2,"z":3}',
        '{"user":"p1@example.com","timestamp":1655564400009.0,"x":1.0,"y":2,"z":3} , ',
        '{"user":"p1@example.com","timestamp":1655564400010,"x":1.0,"y":2,"z":3},'
        '{"user":"p2@example.com","timestamp":1655564400010,"x":1.0,"y":2,"z":3},',
        '{"user":"p1@example.com","timestamp":1655564400011,"x":1.0,"y":2,"z":3},,',
        '{"user":"p1@example.com","timestamp":1655564400011,"x":1.0,"y":2,"z":3}, {"user":',
        ',{"user":"p1@example.com","timestamp":1655564400011,"x":1.0,"y":2,"z":3}',
        '{"user":"José@example.com","timestamp":1655564400000,"x":1,"y":2,"z":3}',
        '{"user":"J̌ᾳ@example.com","timestamp":1655564400000,"x":1,"y":2,"z":3}',
    ],
    "step_trainer": [
        '{"sensorReadingTime":1655564400000,"serialNumber":12345,"distanceFromObject":1}',
        '{"sensorReadingTime":1655564400000,"serialNumber":"","distanceFromObject":1}',
        '{"sensorReadingTime":1655564400000,"serialNumber":"d1","distanceFromObject":1.5}',
        '{"sensorReadingTime":1655564400000,"serialNumber":"d1","distanceFromObject":-3}',
        '{"sensorReadingTime":99999999999999999999,"serialNumber":"d1","distanceFromObject":1}',
        '{"sensorReadingTime":1655564400000,"serialNumber":{"a":1},"distanceFromObject":1}',
        '{"sensorReadingTime":1655564400000,"serialNumber":"d1","distanceFromObject":1,'
        '"note":"}{"}{"sensorReadingTime":1655564400001,"serialNumber":" d1\\t",'
        '"distanceFromObject":2}',
        "\t",
    ],
}


def compact(record: dict) -> str:
    return json.dumps(record, separators=(",", ":"), ensure_ascii=False)


def customer(rng: random.Random, number: int, updated: int) -> dict:
    """One record of a person of a small pool, now consenting, now not."""
    email = f"p{number}@example.com"
    record = {
        "customerName": rng.choice(["Ann Example", "Bo Sample", None]),
        "email": rng.choice([email, f" {email.upper()}", f"{email}\t"]),
        "phone": rng.choice(["5550100", "5550101"]),
        "birthDay": "1990-01-01",
        "serialNumber": rng.choice([f"d{number}", f" d{number} ", f"d{rng.randrange(8)}"]),
        "registrationDate": T0 + rng.randrange(2),
        "lastUpdateDate": T0 + updated,
        "shareWithResearchAsOfDate": rng.choice([T0 + 5, T0 + 10, T0, 0, None, -1]),
        "shareWithPublicAsOfDate": rng.choice([T0, 0, None]),
        "shareWithFriendsAsOfDate": rng.choice([T0, None]),
    }
    return {k: v for k, v in record.items() if v is not None or rng.random() < 0.5}


def reading(rng: random.Random) -> dict:
    email = f"p{rng.randrange(10)}@example.com"
    return {
        "user": rng.choice([email, email, f" {email.upper()} "]),
        "timestamp": T0 + rng.randrange(25),
        "x": rng.choice([0.0, 1.0, -1.0]),
        "y": rng.choice([0.0, 0.25]),
        "z": rng.choice([-1.5, 0.0]),
    }


def step(rng: random.Random) -> dict:
    return {
        "sensorReadingTime": T0 + rng.randrange(25),
        "serialNumber": rng.choice([f"d{rng.randrange(10)}", f" d{rng.randrange(10)}"]),
        "distanceFromObject": rng.randrange(3),
    }


MAKERS = {
    "customer": lambda rng: customer(rng, rng.randrange(10), rng.randrange(4)),
    "accelerometer": reading,
    "step_trainer": step,
}


def odd_objects(seed: int, dates: list[date] | None = None) -> dict[str, bytes]:
    """Objects for all entities over some dates, every odd case among them; key -> bytes."""
    rng = random.Random(seed)
    days = dates or DATES
    objects: dict[str, bytes] = {}
    for entity, make in MAKERS.items():
        lines = [compact(make(rng)) for _ in range(150)]
        lines += [line for line in lines if rng.random() < 0.2] + ODD_LINES[entity]
        for day in days:
            folder = f"landing/{entity}/ingest_date={day}"
            objects |= day_objects(rng, folder, rng.sample(lines, len(lines) * 2 // 3))
        good = compact(make(rng)).encode()
        for name in (
            f"landing/{entity}/stray.json",
            f"landing/{entity}/ingest_date=2022-02-30/bad.json",
            f"landing/{entity}/ingest_date=2001-01-01/early.json",
            f"landing/{entity}/ingest_date=2199-01-01/late.json",
            f"landing/{entity}/ingest_date={days[0]}/_SUCCESS",
            f"landing/{entity}/ingest_date={days[0]}/.hidden/a.json",
            f"landing/{entity}/ingest_date={days[0]}/a/_b/c.json",
        ):
            objects[name] = good
    return objects


def day_objects(rng: random.Random, folder: str, lines: list[str]) -> dict[str, bytes]:
    """A day's lines cut into objects of every kind."""
    cut = [lines[i::9] for i in range(9)]
    text = [
        separator.join(part)
        for part, separator in zip(
            cut, ["\n", "\r\n", "\r", "\n\n", " \n\t", "\n", "\n", "\n", "\n"], strict=True
        )
    ]
    whole = [line for line in cut[0] if line.endswith("}")]
    return {
        f"{folder}/plain.json": text[0].encode(),
        f"{folder}/crlf.json": text[1].encode(),
        f"{folder}/cr.json": text[2].encode(),
        f"{folder}/sub/dir/blank lines.json": text[3].encode(),
        f"{folder}/odd name [x]*?{{y}}%20+é.json": text[4].encode(),
        f"{folder}/bom.json": b"\xef\xbb\xbf" + text[5].encode(),
        f"{folder}/zipped.json.gz": gzip.compress(text[6].encode(), mtime=0),
        f"{folder}/ZIPPED.JSON.GZ": gzip.compress(text[7].encode(), mtime=0),
        f"{folder}/two members.json.gz": gzip.compress(b"\n".join([text[8].encode(), b""]), mtime=0)
        + gzip.compress(text[8].encode(), mtime=0),
        f"{folder}/concatenated.json": "".join(whole).encode(),
        f"{folder}/empty.json": b"",
        f"{folder}/empty.json.gz": b"",
        f"{folder}/blank.json": b" \n\t\r\n",
        f"{folder}/cut.json.gz": gzip.compress(text[0].encode(), mtime=0)[:-20],
        f"{folder}/damaged.json.gz": damaged(gzip.compress(text[0].encode(), mtime=0)),
        f"{folder}/not.json.gz": text[0].encode(),
        f"{folder}/latin.json": '{"email":"é@example.com"}'.encode("latin-1"),
        f"{folder}/utf16.json": text[1].encode("utf-16"),
        f"{folder}/noend": rng.choice(lines).encode(),
        f"{folder}/part-1.7": rng.choice(lines).encode(),
        f"{folder}/x=5/a.json": rng.choice(lines).encode(),
        f"{folder}/plain.json.bz2": rng.choice(lines).encode(),
        f"{folder}/PLAIN.ZST": rng.choice(lines).encode(),
        f"{folder}/zipped.json.bz2": bz2.compress(text[0].encode()),
        f"{folder}/zipped.xz": lzma.compress(text[0].encode()),
        f"{folder}/plain.deflate": rng.choice(lines).encode(),
        f"{folder}/plain.snappy": rng.choice(lines).encode(),
        f"{folder}/plain.lz4": rng.choice(lines).encode(),
        f"{folder}/padded.json.gz": gzip.compress(text[1].encode(), mtime=0) + bytes(512),
        f"{folder}/padded between.json.gz": gzip.compress(text[2].encode(), mtime=0)
        + bytes(3)
        + gzip.compress(b"\n" + text[3].encode(), mtime=0),
        f"{folder}/garbage.json.gz": gzip.compress(text[4].encode(), mtime=0) + b"garbage",
    }


def damaged(zipped: bytes) -> bytes:
    """A gzip whose checksum is wrong."""
    return zipped[:-8] + bytes(4) + zipped[-4:]


def plain_objects(seed: int = 0, day: date = DATES[0]) -> dict[str, bytes]:
    """A small day without odd cases."""
    rng = random.Random(seed)
    made = {
        "customer": [customer(rng, n, 0) | {"serialNumber": f"d{n}"} for n in range(10)],
        "accelerometer": [reading(rng) for _ in range(100)],
        "step_trainer": [step(rng) for _ in range(100)],
    }
    return {
        f"landing/{entity}/ingest_date={day}/{seed}.json": "\n".join(map(compact, found)).encode()
        for entity, found in made.items()
    }


def reading_line(number: int) -> str:
    """A canonical phone reading; another number, another reading."""
    return (
        f'{{"user":"p1@example.com","timestamp":{T0 + number},"x":{number % 3}.5,"y":0.25,"z":-1}}'
    )


# Parts of JSON, and of what is nearly JSON, to make texts of.
_FRAGMENTS = [
    *("{}", "{", "}", "[", "]", ",", ":", '"', "\\", "\n", "\r", "\r\n", " ", "\t", "\x0b", "\0"),
    *("null", "true", "1.0", "-0", "1e5", "0.0", "9007199254740993.0", "NaN", "\ufeff", "\ufffd"),
    *("é", "İ", "\u2028", "\u0085", "🚲", '{"a":1}', ',{"a":1}', "}{", "},{", '"}{"'),
]
_SUFFIXES = [".json", ".JSON", ".gz", ".json.gz", ".GZ", ".Gz", "", ".1", ".bz2", ".xz", ".zst"]
_SUFFIXES += [
    ".deflate",
    ".snappy",
    ".lz4",
    ".lzo",
    ".br",
    ".Z",
    ".zip",
    ".csv",
    ".txt",
    ".gzip",
    ".",
]


def fuzzed_line(rng: random.Random, entity: str) -> str:
    """A record of an entity, an odd line, or something made of parts of one."""
    line = rng.choice([compact(MAKERS[entity](rng)), rng.choice(ODD_LINES[entity])])
    for _ in range(rng.choice([0, 0, 0, 1, 1, 2, 5])):
        at = rng.randrange(len(line) + 1)
        gone = rng.choice([0, 0, 1, 2, 10])
        line = line[:at] + rng.choice(_FRAGMENTS) + line[at + gone :]
    return line


def fuzzed_text(rng: random.Random, entity: str) -> str:
    """Lines of an entity with line ends of every kind, in one line or in many."""
    separators = rng.choice([["\n"], ["\n", "\r\n", "\r", "\n\n"], ["", " ", ",", " ,\t", "\n"]])
    lines = [fuzzed_line(rng, entity) for _ in range(rng.choice([0, 1, 2, 10, 60]))]
    return "".join(line + rng.choice(separators) for line in lines)


def fuzzed_object(rng: random.Random, entity: str, folder: str) -> tuple[str, bytes]:
    """Key and bytes of an object: any name, any text, sometimes zipped, cut or damaged."""
    clean = rng.random() < 0.3
    lines = [compact(MAKERS[entity](rng)) for _ in range(rng.randrange(1, 30))]
    text = "\n".join(lines) if clean else fuzzed_text(rng, entity)
    data = rng.choice([b"", b"", b"", b"\xef\xbb\xbf"]) + text.encode()
    stem = "".join(rng.choices("ab-+=%?*[]{}é .~#&", [9, 9] + [1] * 16, k=rng.randrange(1, 9)))
    name = f"{rng.choice(['', '', 'sub/', 'x=1/', 'e é/'])}n{stem}{rng.choice(_SUFFIXES)}"
    if name.lower().endswith(".gz") and rng.random() < 0.9:
        half = rng.randrange(len(data) + 1)
        members = rng.choice([[data], [data[:half], data[half:]]])
        padding = bytes(rng.choice([0, 0, 1, 100]))
        data = b"".join(gzip.compress(member, mtime=0) + padding for member in members)
    if rng.random() < 0.1:
        at = rng.randrange(len(data) + 1)
        data = data[:at] + rng.choice([b"", rng.randbytes(1) + data[at + 1 :], b"\xff"])
    return f"{folder}/{name}", data
