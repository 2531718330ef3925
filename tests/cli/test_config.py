"""``config show``: each setting, its value, and where it comes from."""

import json

import pytest

from packer_fork import config
from tests.conftest import Cli, Project

TOML = """
    grace = "1h30m"
    inputs = ["roles/**", "ünïcode"]
    workspace = "from-file"
    [artifact_check]
    "mitchellh.amazonebs" = ["aws", "describe"]
"""


@pytest.fixture
def shown(project: Project) -> Project:
    project.write("packer-fork.toml", TOML)
    project.write("images/web.pkr.hcl", "")
    return project


def rows(text: str) -> dict[str, list[str]]:
    parts = [[part for part in line.split("  ") if part.strip()] for line in text.splitlines()]
    return {name.strip(): [each.strip() for each in rest] for name, *rest in parts[1:]}


def test_each_setting_with_its_origin(cli: Cli, shown: Project) -> None:
    file = str(shown.root / "packer-fork.toml")
    result = cli(
        *("config", "show", "images/web.pkr.hcl", "--workspace", "w"),
        env={"PACKER_FORK_LOCK_TIMEOUT": "90", "PACKER_FORK_FAIL_FAST": "true"},
    )
    assert result.rc == 0
    found = rows(result.out)
    assert list(found) == list(config.Settings.__struct_fields__)
    assert found["grace"] == ['"1h30m"', file]
    assert found["inputs"] == ['["roles/**", "ünïcode"]', file]
    assert found["artifact_check"] == ['{ "mitchellh.amazonebs" = ["aws", "describe"] }', file]
    assert found["workspace"] == ['"w"', "--workspace"]
    assert found["lock_timeout"] == ['"1m30s"', "PACKER_FORK_LOCK_TIMEOUT"]
    assert found["fail_fast"] == ["true", "PACKER_FORK_FAIL_FAST"]
    assert found["packer"] == ['"packer"', "default"]


def test_what_it_shows_can_be_set(cli: Cli, shown: Project) -> None:
    before = json.loads(cli("config", "show", "--json").out)
    lines = [f"{name} = {row[0]}" for name, row in rows(cli("config", "show").out).items()]
    (shown.root / "packer-fork.toml").write_text("\n".join(lines), encoding="utf-8")
    after = json.loads(cli("config", "show", "--json").out)
    assert after["file"] == before["file"] == str(shown.root / "packer-fork.toml")
    values = [
        {name: each["value"] for name, each in document["settings"].items()}
        for document in (before, after)
    ]
    assert values[0] == values[1]
    assert values[0]["grace"] == 5400
    assert {each["origin"] for each in after["settings"].values()} == {after["file"]}


def test_without_a_file_all_is_default(cli: Cli) -> None:
    document = json.loads(cli("config", "show", "--json").out)
    assert document["file"] is None
    assert {each["origin"] for each in document["settings"].values()} == {"default"}


def test_an_unknown_key_names_the_nearest(cli: Cli, project: Project) -> None:
    project.write("packer-fork.toml", 'workspce = "w"')
    result = cli("config", "show")
    assert result.rc == 2
    assert "unknown key 'workspce'" in result.err
    assert "Did you mean 'workspace'?" in result.err


def test_misspelt_variable_is_refused_with_the_nearest_one(cli: Cli) -> None:
    result = cli("config", "show", env={"PACKER_FORK_WORKSPCE": "x"})
    assert result.rc == 2
    assert "PACKER_FORK_WORKSPCE" in result.err
    assert "PACKER_FORK_WORKSPACE" in result.err


def test_variable_that_resembles_no_setting_is_the_users_own(cli: Cli) -> None:
    own = {"PACKER_FORK_TRACE": "1", "PACKER_FORK_IMAGE": "x", "PACKER_FORK_DOTENV": "env"}
    assert cli("config", "show", env=own).rc == 0


def test_a_template_that_is_not_there(cli: Cli) -> None:
    assert cli("config", "show", "missing.pkr.hcl").rc == 14


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (
            "retries = -1",
            "retries: -1 is not what it takes.\n  hint: Give a whole number, 0 or more.",
        ),
        ('keep_runs = "x"', "keep_runs: 'x' is not what it takes.\n  hint: Give a whole number,"),
        ("packer = 3", "packer: 3 is not what it takes.\n  hint: Give a text."),
        ("store_token = 30419", "store_token: is not what it takes.\n  hint: Give a text."),
        ("isolate = 2", "isolate: 2 is not what it takes.\n  hint: Give true or false."),
        ("grace = []", "grace: [] is not what it takes.\n  hint: Give a duration"),
        ("grace = -1", "grace is negative."),
        ('inputs = "a"', "inputs: 'a' is not what it takes.\n  hint: Give a list of globs,"),
        (
            'inputs = ["a", ""]',
            "inputs: ['a', ''] is not what it takes.\n  hint: Give a list of globs,",
        ),
        (
            'input_commands = ["git status"]',
            "input_commands: ['git status'] is not what it takes.\n  hint: Give a list",
        ),
        (
            "input_commands = [[]]",
            "input_commands: [[]] is not what it takes.\n  hint: Give a list of",
        ),
        ("artifact_check = []", "artifact_check: [] is not what it takes.\n  hint: Give a table"),
        (
            'abandoned = "x"',
            "abandoned: 'x' is not what it takes.\n  hint: Give one of take, block.",
        ),
    ],
)
def test_a_wrong_value_is_told_with_its_key_and_what_it_takes(
    cli: Cli, project: Project, line: str, told: str
) -> None:
    file = project.write("packer-fork.toml", line)
    result = cli("config", "show")
    assert result.rc == 2
    assert result.err.startswith(f"packer-fork: error: {file}: {told}")


@pytest.mark.usefixtures("shown")
def test_a_wrong_flag_and_a_wrong_variable_name_themselves_once(cli: Cli) -> None:
    told = " 'x' is not what it takes.\n  hint: Give a whole number, 0 or more.\n"
    result = cli("config", "show", env={"PACKER_FORK_KEEP_DAYS": "x"})
    assert (result.rc, result.err) == (2, f"packer-fork: error: PACKER_FORK_KEEP_DAYS:{told}")
    result = cli("build", "--share", "--max-sources", "0", "images/web.pkr.hcl")
    assert result.rc == 2
    assert result.err.startswith("packer-fork: error: --max-sources: 0 is not what it takes.\n")
    result = cli("plan", "--input-command", "cat 'x", "images/web.pkr.hcl")
    assert result.rc == 2
    assert result.err.startswith(
        "packer-fork: error: --input-command: a command cannot be split (No clos"
    )
