"""SCALE times a base data set: every copy's people and devices are its own, its times the same.

    python -m bench.make_data SOURCE DEST SCALE

SOURCE is a folder with customer/, accelerometer/ and step_trainer/, or `-` for a synthetic base of
the published data's shape. DEST gets the same folders with one JSON object a line, in objects of
some 32 MB. Copy k > 0 has `-k` before the @ of each email and user and after each serial number.
"""

import argparse
import gzip
import json
import random
import re
from collections.abc import Iterator
from pathlib import Path

ENTITIES = ("customer", "accelerometer", "step_trainer")
OBJECT_BYTES = 32_000_000

# Where a copy's suffix goes; JSON text never holds a NUL byte.
MARK = b"\0"
OWN = re.compile(
    rb'("(?:email|user)"\s*:\s*"(?:[^"\\@]|\\.)*|"serialNumber"\s*:\s*"(?:[^"\\]|\\.)*)'
)
CONCATENATED = re.compile(r"\}\s*\{")

CUSTOMERS = 956
STEPS = 30
START = 1_655_564_400_000


def synthetic(entity: str) -> Iterator[str]:
    """One entity's lines of a base of the published shape: 956 people, half of them consenting.

    Everybody has 30 step readings and 85 phone readings, each phone reading at the millisecond of a
    step of the same person; people overlap in time, as in the published data.
    """
    chance = random.Random(f"stedi {entity}")
    for n in range(CUSTOMERS):
        begin = START + n * 1_000
        if entity == "customer":
            consent = f',"shareWithResearchAsOfDate":{begin}' if n % 2 else ""
            yield (
                f'{{"customerName":"Person {n}","email":"Person.{n}@example.com",'
                f'"phone":"5550100","birthDay":"1980-01-01","serialNumber":"serial-{n}",'
                f'"registrationDate":{begin},"lastUpdateDate":{begin}{consent}}}'
            )
            continue
        for step in range(STEPS):
            moment = begin + 100 * step
            if entity == "step_trainer":
                yield (
                    f'{{"sensorReadingTime":{moment},"serialNumber":"serial-{n}",'
                    f'"distanceFromObject":{chance.randrange(200, 300)}}}'
                )
                continue
            for z in range(3 if step % 6 else 2):  # 85 in all, no two of them alike
                x, y = chance.randrange(-1, 2), chance.randrange(-1, 2)
                yield (
                    f'{{"user":"Person.{n}@example.com","timestamp":{moment},'
                    f'"x":{x}.0,"y":{y}.0,"z":{z - 1}.0}}'
                )


def landed(folder: Path) -> Iterator[str]:
    """The records of the objects in a folder, one a line, concatenated ones taken apart."""
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        if path.name.startswith(("_", ".")):
            continue
        raw = path.read_bytes()
        text = gzip.decompress(raw) if path.name.lower().endswith(".gz") else raw
        for line in re.split(r"[\r\n]+", text.decode("utf-8-sig")):
            if line.strip():
                yield from records(line) if CONCATENATED.search(line) else [line]


def records(line: str) -> Iterator[str]:
    """The JSON objects of a line, and what is left of it where the next thing is none."""
    decoder, start = json.JSONDecoder(), 0
    while rest := line[start:].strip():
        start = len(line) - len(line[start:].lstrip())
        try:
            _, end = decoder.raw_decode(line, start)
        except ValueError:
            yield rest
            return
        yield line[start:end]
        start = end


def make_data(source: Path | None, dest: Path, scale: int) -> Path:
    """Write SCALE copies of a source, or of the synthetic base, and give DEST back."""
    for entity in ENTITIES:
        lines = synthetic(entity) if source is None else landed(source / entity)
        template = OWN.sub(rb"\1" + MARK, "".join(f"{line}\n" for line in lines).encode())
        write_copies(template, dest / entity, scale)
    return dest


def write_copies(template: bytes, folder: Path, scale: int) -> None:
    """A template's copies, as objects of about OBJECT_BYTES each."""
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise SystemExit(f"{folder} is not empty")
    copies = max(1, min(round(OBJECT_BYTES / max(len(template), 1)), scale))
    for first in range(0, scale, copies):
        with (folder / f"part-{first // copies:05}.json").open("wb") as file:
            for copy in range(first, min(first + copies, scale)):
                file.write(template.replace(MARK, b"-%d" % copy if copy else b""))


def main() -> None:
    """Parse the arguments and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", help="a folder with the three entity folders, or - for synthetic")
    parser.add_argument("dest", type=Path)
    parser.add_argument("scale", type=int)
    arguments = parser.parse_args()
    source = None if arguments.source == "-" else Path(arguments.source)
    make_data(source, arguments.dest, arguments.scale)


if __name__ == "__main__":
    main()
