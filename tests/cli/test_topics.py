"""``packer-fork help``: every page of the documentation on a terminal."""

from __future__ import annotations

import re

import pytest

from packer_fork.cli import help as help_command
from packer_fork.cli.help import FOLDER, TOPICS
from tests.conftest import Cli
from tests.support.docs import PAGES, ROOT, table

README = ROOT / "README.md"


def test_every_page_is_a_topic_once() -> None:
    names = [name for group in TOPICS.values() for name in group]
    assert sorted(names) == sorted(path.stem for path in FOLDER.glob("*.md"))


def test_readme_lists_the_topics_in_their_groups() -> None:
    listed = re.findall(r"^\| (\w+) \| (.*\.md\).*) \|$", PAGES[README], re.MULTILINE)
    found = {group: tuple(re.findall(r"docs/([\w-]+)\.md", cell)) for group, cell in listed}
    assert found == {
        group: tuple(name for name in names if name != "figures") for group, names in TOPICS.items()
    }
    assert "docs/figures.md" in PAGES[README]


def test_figures_of_readme_are_rows_of_the_figures_page() -> None:
    rows = table("what", PAGES[README])
    measured = table("what", PAGES[FOLDER / "figures.md"])
    assert 0 < len(rows) <= 10
    assert all(row in measured for row in rows)


@pytest.mark.parametrize("topic", [name for group in TOPICS.values() for name in group])
def test_page_is_readable_on_a_terminal(topic: str) -> None:
    text = help_command.page(topic)
    assert text.startswith("# ")
    assert "<!--" not in text
    assert not re.search(r"\]\([\w-]+\.md", text)


def test_help_shows_a_topic_a_command_and_all_topics(cli: Cli) -> None:
    assert "force-unlock LOCK_ID" in cli("help", "stuck-lock").out
    assert cli("help", "state", "show").out.startswith("Usage: packer-fork state show")
    assert "stuck-lock" in cli("help").out


def test_help_lists_the_topics_with_these_words(cli: Cli) -> None:
    listed = [line.split()[0] for line in cli("help", "exclude", "a", "Variable").out.splitlines()]
    assert listed == ["control-rebuilds"]
    assert "share-state" in cli("help", "S3").out
    assert cli("help", "ariable").rc == 2


def test_unknown_topic_is_refused_with_the_nearest_one(cli: Cli) -> None:
    result = cli("help", "stuck-locks")
    assert result.rc == 2
    assert "stuck-locks" in result.err
    assert "'stuck-lock'" in result.err
