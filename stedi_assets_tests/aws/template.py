"""The CloudFormation template with its references resolved, as far as its policies need it."""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
TEMPLATE = ROOT / "infra" / "stedi.yaml"
ACCOUNT = "111122223333"
REGION = "eu-west-1"
VALUES = {
    "AWS::Partition": "aws",
    "AWS::Region": REGION,
    "AWS::AccountId": ACCOUNT,
    "BucketName": "lake",
    "DatabaseName": "stedi",
    "ResultDays": 1,
    "PipelineService": "ecs-tasks.amazonaws.com",
}
ARNS = {
    "Key": f"arn:aws:kms:{REGION}:{ACCOUNT}:key/11111111-2222-3333-4444-555555555555",
    "Queue": f"arn:aws:sqs:{REGION}:{ACCOUNT}:stedi-Queue",
    "DeadLetters": f"arn:aws:sqs:{REGION}:{ACCOUNT}:stedi-DeadLetters",
    "Salt": f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:stedi-Salt-a1b2c3",
}


def load() -> dict[str, Any]:
    """The template's resources by their logical names."""
    from cfnlint.decode import decode

    template, problems = decode(str(TEMPLATE))
    assert not problems
    return resolve(json.loads(json.dumps(template)))["Resources"]


def resolve(value: Any) -> Any:
    """A part of the template without Ref, Fn::Sub and Fn::GetAtt."""
    if isinstance(value, list):
        return [resolve(one) for one in value]
    if not isinstance(value, dict):
        return value
    if set(value) == {"Ref"}:
        name = value["Ref"]
        return VALUES.get(name, ARNS.get(name, name))
    if set(value) == {"Fn::Sub"}:
        return re.sub(r"\$\{([^}]+)\}", lambda match: str(VALUES[match[1]]), value["Fn::Sub"])
    if set(value) == {"Fn::GetAtt"}:
        name = value["Fn::GetAtt"][0]
        return ARNS.get(name, name)
    return {name: resolve(one) for name, one in value.items()}


def documents(resources: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Every policy document of the template, by the name of its resource."""
    for name, resource in resources.items():
        properties = resource["Properties"]
        for key in ("PolicyDocument", "KeyPolicy"):
            if key in properties:
                yield name, properties[key]


def role_name(who: str) -> str:
    """The logical name of a role: `step trainer producer` is StepTrainerProducerRole."""
    return "".join(word.capitalize() for word in who.split()) + "Role"


def policies_of(resources: dict[str, Any], who: str) -> dict[str, Any]:
    """The documents of the policies that a role has, by their logical names."""
    attached = resources[role_name(who)]["Properties"]["ManagedPolicyArns"]
    return {name: resources[name]["Properties"]["PolicyDocument"] for name in attached}


def access_table() -> list[dict[str, str]]:
    """The lines of the table in docs/access.md."""
    lines = (ROOT / "docs" / "access.md").read_text(encoding="utf-8").splitlines()
    rows = [[cell.strip() for cell in one.strip("|").split("|")] for one in lines if one[:1] == "|"]
    return [dict(zip(rows[0], row, strict=True)) for row in rows[2:]]


def arn(on: str) -> str:
    """The ARN of a place as the table names it."""
    kind, _, name = on.partition(" ")
    glue = f"arn:aws:glue:{REGION}:{ACCOUNT}"
    athena = f"arn:aws:athena:{REGION}:{ACCOUNT}:workgroup"
    fixed = {
        "key": ARNS["Key"],
        "queue": ARNS["Queue"],
        "salt": ARNS["Salt"],
        "catalog": f"{glue}:catalog",
        "database": f"{glue}:database/stedi",
        "other database": f"{glue}:table/other/customer_landing",
        "workgroup of others": f"{athena}/primary",
    }
    if on in fixed:
        return fixed[on]
    if kind == "table":
        return f"{glue}:table/stedi/{name}"
    if kind == "workgroup":
        return f"{athena}/stedi-{name}"
    bucket, slash, key = on.partition("/")
    return (
        f"arn:aws:s3:::{ {'lake': 'lake', 'results': 'lake-athena-results'}[bucket] }{slash}{key}"
    )


if __name__ == "__main__":  # writes the policies into a folder, for linters
    for name, document in documents(load()):
        if name == "Key":  # in a key's own policy "*" is that key, which linters take for all
            continue
        Path(sys.argv[1], f"{name}.json").write_text(json.dumps(document, indent=1))
