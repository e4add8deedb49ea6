"""N times a data set: every copy's people and devices are its own, its times the same."""

import random
import re
from pathlib import Path

START = 1_655_564_400_000


def synthetic(folder: Path) -> Path:
    """A base of the published data's shape: 956 people, half consenting, 81k and 29k readings."""
    rng = random.Random(0)
    lines: dict[str, list[str]] = {"customer": [], "accelerometer": [], "step_trainer": []}
    for n in range(956):
        share = f', "shareWithResearchAsOfDate": {START}' if n % 2 else ""
        lines["customer"].append(
            f'{{"customerName": "Person {n}", "email": "p{n}@example.com", "phone": "5550100",'
            f' "birthDay": "1980-01-01", "serialNumber": "sn-{n}", "registrationDate": {START},'
            f' "lastUpdateDate": {START}{share}}}'
        )
        moment = START + n * 1_000
        for step in range(30):
            moment += 100
            lines["step_trainer"].append(
                f'{{"sensorReadingTime":{moment},"serialNumber":"sn-{n}",'
                f'"distanceFromObject":{rng.randrange(300)}}}'
            )
            for _ in range(3 if step % 6 else 2):
                x, y, z = (rng.randrange(-9, 10) for _ in range(3))
                lines["accelerometer"].append(
                    f'{{"user":"p{n}@example.com","timestamp":{moment},"x":{x}.0,"y":{y}.5,"z":{z}.0}}'
                )
    for entity, found in lines.items():
        (folder / entity).mkdir(parents=True)
        (folder / entity / "0.json").write_text("\n".join(found) + "\n")
    return folder


def multiplied(source: Path, folder: Path, times: int) -> Path:
    """The source's records N times over, a few tens of megabytes an object."""
    for entity in ("customer", "accelerometer", "step_trainer"):
        text = "".join(p.read_text() for p in sorted((source / entity).glob("*.json")))
        (folder / entity).mkdir(parents=True)
        for copy in range(times):
            made = text
            if copy:
                made = re.sub(r'("(?:email|user)": ?"[^"@]*)@', rf"\1+{copy}@", made)
                made = re.sub(r'("serialNumber": ?"[^"]*)"', rf'\1-{copy}"', made)
            with (folder / entity / f"{copy // 4:04}.json").open("a") as file:
                file.write(made)
    return folder
