"""The audit in its short form: one layout, and that the audit sees what does not count."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from stress import audit
from stress.audit_layouts import LAYOUTS
from tests.support.docs import DOCS

_SHORT = next(each for each in LAYOUTS if each.name.startswith("monorepo"))

pytestmark = pytest.mark.usefixtures("packer", "strace")


@pytest.fixture
def folder() -> Iterator[Path]:
    """Short, as Packer puts sockets there, whose paths may have 107 characters."""
    with tempfile.TemporaryDirectory(prefix="pf-") as found:
        yield Path(found)


def test_every_file_that_packer_reads_counts(folder: Path) -> None:
    found = audit.audit(_SHORT, folder)
    assert {"images/web/install.sh", "shared/lib/retry.sh"} <= found.read
    assert "shared/lib/unused.sh" not in found.read
    assert "shared/lib/retry.sh" in found.unnamed
    assert not found.missed


def test_audit_sees_what_is_read_and_does_not_count(folder: Path) -> None:
    found = audit.audit(_SHORT, folder, {"PACKER_FORK_OBSERVE": "off"})
    assert found.missed == found.unnamed
    assert "shared/lib/retry.sh" in found.missed


def test_table_in_readme_has_all_layouts_and_nothing_missed() -> None:
    _, _, rest = DOCS.partition(audit.BEGIN)
    rows = re.findall(r"^\| (.+) \|$", rest.partition(audit.END)[0], re.MULTILINE)
    cells = [each.split(" | ") for each in rows]
    assert tuple(cells[0]) == audit.COLUMNS
    table = {row[0]: dict(zip(audit.COLUMNS, row, strict=True)) for row in cells[1:]}
    assert list(table) == [each.name for each in LAYOUTS]
    assert {row["missed by both"] for row in table.values()} == {"0"}


def test_missing_strace_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert audit.main([]) == 2
    assert capsys.readouterr().err == "error: strace is not installed: the audit needs it\n"


@pytest.mark.parametrize("arguments", [("--only=none such",), ("--only=JSON", "--page")])
def test_a_table_of_some_or_no_layouts_is_refused(
    arguments: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        audit.main([*arguments, *([str(tmp_path)] if "--page" in arguments else [])])
    assert ended.value.code == 2
    assert "error: " in capsys.readouterr().err
