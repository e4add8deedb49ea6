"""docs/access.md against the template's own policies, evaluated as IAM does; needs Node.js."""

import copy
import json
import subprocess

import pytest

from stedi_assets_tests.aws import template

CHECK = template.ROOT / "infra" / "policy_check"
TABLE = template.access_table()
RESOURCE_POLICIES = {
    "lake": "BucketPolicy",
    "results": "ResultsBucketPolicy",
    "queue": "QueuePolicy",
    "key": "Key",
}

pytestmark = pytest.mark.infra


def evaluate(simulations):
    """Each simulation's result: Allowed, ImplicitlyDenied or ExplicitlyDenied."""
    done = subprocess.run(
        ["node", "simulate.mjs"],
        cwd=CHECK,
        input=json.dumps(simulations),
        capture_output=True,
        text=True,
        check=True,
    )
    results = json.loads(done.stdout)
    assert all(isinstance(result, str) for result in results), results
    return results


def resource_policy(resources, on):
    name = RESOURCE_POLICIES.get(on.partition("/")[0])
    if name is None:
        return None
    properties = resources[name]["Properties"]
    return properties.get("PolicyDocument") or properties["KeyPolicy"]


def simulation(resources, line):
    """A line of the table as a request with every policy that has a say in it."""
    context = {"aws:SecureTransport": "true"}
    for condition in filter(None, line["where"].split(", ")):
        key, _, value = condition.partition("=")
        context[key] = template.arn(value) if value == "lake" else value
    identity = {} if line["who"] == "S3 itself" else template.policies_of(resources, line["who"])
    role = f"arn:aws:iam::{template.ACCOUNT}:role/{template.role_name(line['who'])}"
    request = {
        "principal": role if line["who"] != "S3 itself" else "s3.amazonaws.com",
        "action": line["action"],
        "resource": {"resource": template.arn(line["on"]), "accountId": template.ACCOUNT},
        "contextVariables": context,
    }
    policy = resource_policy(resources, line["on"])
    return {
        "request": request,
        "identityPolicies": [{"name": name, "policy": one} for name, one in identity.items()],
        "serviceControlPolicies": [],
        "resourceControlPolicies": [],
        **({"resourcePolicy": policy} if policy else {}),
    }


def wrong_lines(resources, lines=TABLE):
    results = evaluate([simulation(resources, line) for line in lines])
    return [
        (line, result)
        for line, result in zip(lines, results, strict=True)
        if (result == "Allowed") != (line["may"] == "yes")
    ]


def test_every_line_of_the_table_holds():
    assert wrong_lines(template.load()) == []


def smaller(document):
    """The document without one line: an action, a resource, a condition, a whole statement."""
    for number, statement in enumerate(document["Statement"]):
        for key in ("Action", "Resource", "Condition"):
            values = statement.get(key)
            if values is None:
                continue
            choices = values if isinstance(values, list) else [values]
            if key == "Condition":
                choices = list(values)
            for choice in choices:
                changed = copy.deepcopy(document)
                if len(choices) > 1:
                    if key == "Condition":
                        del changed["Statement"][number][key][choice]
                    else:
                        changed["Statement"][number][key].remove(choice)
                elif key == "Condition":
                    del changed["Statement"][number][key]
                else:
                    del changed["Statement"][number]
                yield f"{statement.get('Sid')} {key} {choice}", changed


def test_a_policy_without_any_one_of_its_lines_fails_the_table():
    resources = template.load()
    cases, simulations = [], []
    for name, document in template.documents(resources):
        for what, changed in smaller(document):
            changed_resources = copy.deepcopy(resources)
            properties = changed_resources[name]["Properties"]
            properties["PolicyDocument" if "PolicyDocument" in properties else "KeyPolicy"] = (
                changed
            )
            cases.append(f"{name}: {what}")
            simulations.append([simulation(changed_resources, line) for line in TABLE])
    results = evaluate([one for case in simulations for one in case])
    expected = [line["may"] == "yes" for line in TABLE]
    unnoticed = [
        case
        for number, case in enumerate(cases)
        if [
            result == "Allowed"
            for result in results[number * len(TABLE) : (number + 1) * len(TABLE)]
        ]
        == expected
    ]
    assert len(cases) > 80
    assert unnoticed == []
