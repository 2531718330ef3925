"""Imports without what packer-fork does not use leave the other packages whole."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.processes


def run(source: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_an_absent_module_is_there_again_afterwards() -> None:
    run("""
from packer_fork.lean_imports import absent
with absent("json"):
    try:
        import json
    except ImportError:
        pass
    else:
        raise SystemExit("json was imported")
import json
json.dumps(1)
with absent("json"):
    import json
json.dumps(1)
""")


def test_msgspec_is_whole_without_typing_extensions() -> None:
    run("""
from packer_fork.lean_imports import absent
with absent("typing_extensions"):
    import msgspec
import typing, typing_extensions
Part = typing_extensions.TypedDict("Part", {"a": typing_extensions.NotRequired[int]})
assert msgspec.json.decode(b"{}", type=Part) == {}
""")


def test_submodules_are_imported_without_their_package() -> None:
    run("""
import sys
from packer_fork.lean_imports import submodules_only
with submodules_only("portalocker"):
    from portalocker import portalocker as primitives
assert "logging" not in sys.modules and "portalocker" not in sys.modules
import portalocker
assert portalocker.Lock and portalocker.portalocker is primitives
with submodules_only("portalocker"):
    import portalocker as again
assert again is portalocker
""")
