"""The notes of a release: the section of the changelog, or one sentence that says what is wrong."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from packer_fork import __version__
from tests.support.docs import ROOT

pytestmark = pytest.mark.processes

CHANGELOG = f"""# Changelog

## [Unreleased]

Not this.

## [{__version__}] - 2026-01-02

### Added

- A feature.

## [0.0.1] - 2026-01-01

- Not this either.
"""


def notes(folder: Path, version: str, changelog: str) -> subprocess.CompletedProcess[str]:
    (folder / ".ci").mkdir()
    (folder / "packer_fork").mkdir()
    shutil.copy(ROOT / ".ci/release-notes", folder / ".ci")
    (folder / "packer_fork/__init__.py").write_text(f'__version__ = "{__version__}"\n')
    (folder / "CHANGELOG.md").write_text(changelog)
    command = [str(folder / ".ci/release-notes"), version]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_notes_are_the_section_of_the_version(tmp_path: Path) -> None:
    done = notes(tmp_path, __version__, CHANGELOG)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "### Added\n\n- A feature."


@pytest.mark.parametrize(
    ("version", "changelog", "error"),
    [
        ("9.9.9", CHANGELOG, "the tag says 9.9.9"),
        (__version__, "# Changelog\n", f"CHANGELOG.md has no section ## [{__version__}]"),
    ],
)
def test_release_without_notes_or_of_another_version_is_refused(
    tmp_path: Path, version: str, changelog: str, error: str
) -> None:
    done = notes(tmp_path, version, changelog)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {error}")
