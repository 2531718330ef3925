"""What is tested: the source, or with WHEEL=1 what users install, built from the sdist."""

import importlib.metadata
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

import packer_fork
from tests.conftest import unavailable

pytestmark = pytest.mark.processes

ROOT = Path(__file__).parent.parent
IS_WHEEL = bool(os.environ.get("WHEEL"))
PACKAGE = Path(sysconfig.get_path("purelib")) / "packer_fork" if IS_WHEEL else ROOT / "packer_fork"
PROGRAM = (
    "import packer_fork; print(packer_fork.__file__)\n"
    "from packer_fork import artifacts, build, builds, lock_status, plan"
)


@pytest.fixture
def wheel() -> None:
    """A test about the wheel, which CI tests."""
    if not IS_WHEEL:
        unavailable("it is the source that is tested: `make test WHEEL=1` tests the wheel")


@pytest.mark.parametrize("folder", [ROOT, Path("/")], ids=["root", "elsewhere"])
def test_what_is_imported_is_what_is_to_be_tested(folder: Path) -> None:
    done = subprocess.run(
        (sys.executable, "-c", PROGRAM), cwd=folder, capture_output=True, text=True, check=True
    )
    init = str(PACKAGE / "__init__.py")
    assert (packer_fork.__file__, done.stdout.strip()) == (init, init)


def test_it_is_what_python_knows_as_installed() -> None:
    installed = importlib.metadata.distribution("packer-fork")
    assert installed.version == packer_fork.__version__
    assert installed.metadata["Requires-Python"] == ">=3.11"
    (script,) = installed.entry_points.select(group="console_scripts")
    assert (script.name, script.value) == ("packer-fork", "packer_fork.cli:main")
    assert (PACKAGE / "py.typed").exists(), "type checkers read the annotations of no other"


@pytest.mark.usefixtures("wheel")
def test_the_wheel_holds_the_package_and_nothing_else() -> None:
    files = importlib.metadata.files("packer-fork") or []
    packed = [file for file in files if file.hash and file.suffix != ".pyc"]
    tops = {file.parts[0] for file in packed if file.parts[0] != ".."}
    assert tops == {"packer_fork", f"packer_fork-{packer_fork.__version__}.dist-info"}
    assert {file.name for file in packed} >= {"METADATA", "LICENSE", "entry_points.txt", "py.typed"}
    wanted = {str(path) for path in PACKAGE.rglob("*.py")}
    assert {str(file.locate()) for file in packed if file.suffix == ".py"} == wanted


@pytest.mark.usefixtures("wheel")
def test_the_sdist_holds_what_its_tests_need_and_nothing_of_the_machine() -> None:
    metadata = importlib.metadata.metadata("packer-fork")
    assert (ROOT / "PKG-INFO").read_text(encoding="utf-8").startswith("Metadata-Version:")
    assert metadata["Description-Content-Type"] == "text/markdown"
    assert not (ROOT / "packer_fork").exists(), "tests could import it instead of the wheel"
    assert {path.name for path in ROOT.iterdir() if path.is_dir() and not path.is_symlink()} <= {
        *("tests", "stress", ".ci", ".github"),
        *(".pytest_cache", ".hypothesis"),  # of this very run
    }
