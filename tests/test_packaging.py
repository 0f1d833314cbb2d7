"""What is published says the same of itself in each of its files."""

import datetime
import re
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text())
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
TRIGGER = True  # what YAML 1.1 makes of the key "on"


def test_the_citation_is_of_this_version():
    assert CITATION["version"] == PROJECT["version"]
    assert CITATION["license"] == PROJECT["license"]
    assert isinstance(CITATION["date-released"], datetime.date)


def test_the_changelog_has_the_version_and_date_of_the_citation():
    """Before a release its newest section is called Unreleased."""
    changelog = (ROOT / "CHANGELOG.md").read_text()
    headings = re.findall(r"^## (.+)$", changelog, re.M)
    released = [heading for heading in headings if heading != "Unreleased"]
    assert headings == [*(["Unreleased"] if "Unreleased" in headings else []), *released]
    if released:
        expected = f"{CITATION['version']} - {CITATION['date-released']}"
        assert released[0] == expected, "CHANGELOG.md and CITATION.cff disagree"


def test_classifiers_name_the_pythons_that_are_allowed_and_tested():
    named = {each.rpartition(" ")[2] for each in PROJECT["classifiers"] if ":: 3." in each}
    lowest, beyond = re.findall(r"3\.(\d+)", PROJECT["requires-python"])
    assert named == {f"3.{minor}" for minor in range(int(lowest), int(beyond))}
    tests = yaml.safe_load((ROOT / ".github/workflows/tests.yml").read_text())["jobs"]
    assert {*tests["tests"]["strategy"]["matrix"]["python"]} == named


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_are_of_the_form_that_github_reads(path):
    workflow = yaml.safe_load(path.read_text())
    assert {*workflow} == {"name", TRIGGER, "permissions", "jobs"}
    assert workflow["permissions"] == {"contents": "read"}, "more only where it is needed"
    for name, job in workflow["jobs"].items():
        assert {*job} <= {
            *("if", "needs", "runs-on", "permissions", "environment", "strategy", "steps")
        }
        assert job.get("needs", name) in workflow["jobs"]
        for step in job["steps"]:
            assert ("run" in step) != ("uses" in step)
            assert re.fullmatch(r"[\w/-]+@(v\d+|release/v\d+)", step.get("uses", "a/b@v1"))


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_workflows_call_scripts_that_exist(path):
    called = re.findall(r"(?<![\w/])(\.ci/\w+)", path.read_text())
    assert all((ROOT / script).stat().st_mode & 0o100 for script in called)


def test_only_the_release_may_publish_and_it_keeps_no_password():
    text = (ROOT / ".github" / "workflows" / "release.yml").read_text()
    workflow = yaml.safe_load(text)
    assert [*workflow[TRIGGER]["push"]] == ["tags"]
    assert workflow["jobs"]["publish"]["permissions"] == {"id-token": "write"}
    assert "secrets." not in text
