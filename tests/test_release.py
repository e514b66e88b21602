"""What goes with a release: one version everywhere, a changelog, a citation, versions to install."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

import fedlaf

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CITATION: dict[str, Any] = yaml.safe_load((ROOT / "CITATION.cff").read_text())
CHANGELOG = (ROOT / "CHANGELOG.md").read_text()
SECTIONS = re.findall(r"^## \[(.+?)\](?: - (\S+))?$", CHANGELOG, re.MULTILINE)
LOCKED = {
    requirement.name.lower().replace("_", "-"): requirement
    for line in (ROOT / "requirements.lock").read_text().splitlines()
    if line and not line.startswith("#")
    for requirement in [Requirement(line)]
}


def test_there_is_one_version() -> None:
    released = [version for version, _ in SECTIONS if version != "Unreleased"]
    assert {fedlaf.__version__, PROJECT["version"], CITATION["version"]} == {released[0]}
    assert f"version = {{{released[0]}}}" in (ROOT / "docs" / "cite.md").read_text()


def test_the_changelog_begins_with_what_is_not_released_and_goes_back_in_time() -> None:
    (first, no_date), *released = SECTIONS
    assert (first, no_date) == ("Unreleased", "")
    dates = [date for _, date in released]
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\d", date) for date in dates)
    assert dates == sorted(dates, reverse=True)
    versions = [Version(version) for version, _ in released]
    assert versions == sorted(versions, reverse=True)


def test_the_citation_names_what_the_project_does() -> None:
    """`make release` holds it against the schema of the format."""
    assert CITATION["license"] == PROJECT["license"]
    assert CITATION["date-released"] == dict(SECTIONS)[CITATION["version"]]
    assert CITATION["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} <= set(CITATION)


@pytest.mark.parametrize("written", PROJECT["dependencies"])
def test_the_lock_has_each_dependency_in_its_range(written: str) -> None:
    wanted = Requirement(written)
    (pin,) = LOCKED[wanted.name].specifier
    assert pin.operator == "=="
    assert Version(pin.version) in wanted.specifier


def test_the_lock_names_neither_hosts_nor_hashes() -> None:
    text = (ROOT / "requirements.lock").read_text()
    assert not re.search(r"://|--hash|--index|\bfile:", text)
    assert all(requirement.url is None for requirement in LOCKED.values())


def test_the_readme_is_short_and_leads_to_the_documentation() -> None:
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 160
    for page in ("first_withdrawal", "choose", "configuration", "extend", "reproduce", "other_tools"):
        assert f"(docs/{page}.md)" in text
    linked = re.findall(r"\]\(((?!http)[^)#]+)", text)
    assert [path for path in linked if not (ROOT / path).exists()] == []
