"""The rules that hold the package together, read from its source (see README, architecture).

Each rule is a row of a table; imports inside functions count like all others. The last
table shows for each rule a source that breaks it.
"""

import ast
import functools
import gc
import graphlib
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

import packer_fork

ROOT = Path(__file__).parent.parent
PACKAGE = "packer_fork"

LEAVES = {"responses", "locks", "model", "statistics", "errors", "malformed", "failures"}

# Which rooms of the package a room may use, besides itself.
MAY_USE: Mapping[str, set[str]] = {
    "__main__": {"cli"},
    # packer.flags are the words of Packer's own command line
    "cli": {"manager", "views", "events", "config", "terminal", "lean_imports", "packer.flags"}
    | LEAVES,
    "api": {"manager", "events", "packer.flags"} | LEAVES,
    "manager": {"inputs", "packer", "template", "stores", "codec", "changes", "events", "config"}
    | {"lock_steps"}
    | {"host", "processes", "durable", "disk_reserve", "terminal"}
    | LEAVES,
    "views": {"events", "terminal", "host"} | LEAVES,
    "stores": {
        "host",
        "processes",
        "durable",
        "disk_reserve",
        "terminal",
        "codec",
        "changes",
        "lock_steps",
    }
    | {"lean_imports"}
    | LEAVES,
    "packer": {"template", "host", "processes", "durable", "terminal"} | LEAVES,
    "inputs": {"template", "host", "durable"} | LEAVES,
    "template": {"errors"},
    "events": {"locks", "model"},
    "host": LEAVES,
    "processes": {"host"} | LEAVES,
    "codec": {"changes", "model", "errors", "malformed"},
    "changes": {"model"},
    "config": {"errors"},
    "durable": {"errors"},
    "disk_reserve": set(),
    "terminal": set(),
    "responses": {"model"},
    "lock_steps": {"locks", "model"},
    "statistics": {"model"},
    "failures": {"model"},
    "locks": {"model"},
    "model": {"errors"},
    "errors": set(),
    "lean_imports": set(),
    "malformed": set(),
    "__init__": {"api"},
}

HTTP = ("stores.http_client", "stores.tls", "stores.transport_error")

# Which modules (by the beginning of their names) may import what comes from outside.
ONLY_IN: Mapping[str, tuple[str, ...]] = {
    "rich": ("views.live",),
    "portalocker": ("stores.local",),
    "prometheus_client": ("manager.reports.prometheus",),
    "http": HTTP,
    "ssl": HTTP,
    "socket": HTTP,
    "urllib.request": (),  # it follows redirects, and proxies of the environment
    "stamina": ("stores.retry",),
    "urllib3": ("stores.http_client",),
    "obstore": ("stores.bucket",),
    "click": (),  # Typer carries its own
}

SHELLS = {
    "os.system",
    "os.popen",
    "subprocess.getoutput",
    "subprocess.getstatusoutput",
    "asyncio.create_subprocess_shell",
}

TOP_LEVEL = {
    "pyproject.toml",
    "packer_fork",
    "tests",
    "stress",
    "CHANGELOG.md",
    "Makefile",
    "README.md",
    "LICENSE",
}


class Module(NamedTuple):
    """A module by its name below the package, with what its source says.

    ``nodes`` are the imports, classes and calls, which are all that rules look at.
    """

    name: str
    source: str
    nodes: tuple[ast.AST, ...]

    @property
    def room(self) -> str:
        return self.name.partition(".")[0]


Package = Mapping[str, Module]


def parse(sources: Mapping[str, str]) -> Package:
    return {name: parse_module(name, source) for name, source in sources.items()}


def parse_module(name: str, source: str) -> Module:
    known = (ast.Import, ast.ImportFrom, ast.ClassDef, ast.Call)
    nodes = ast.walk(ast.parse(source, name))
    return Module(name, source, tuple(node for node in nodes if isinstance(node, known)))


@functools.cache
def parsed_below(folder: Path) -> Package:
    """Without a search for garbage, of which a tree of syntax has none."""
    gc.disable()
    try:
        return parse(sources_below(folder))
    finally:
        gc.enable()


def sources_below(folder: Path) -> dict[str, str]:
    """Sources by dotted name; a folder's __init__.py goes by the name of the folder."""
    found = {}
    for path in sorted(folder.rglob("*.py")):
        parts = path.relative_to(folder).with_suffix("").parts
        name = ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)
        found[name] = path.read_text(encoding="utf-8")
    return found


def imported(module: Module) -> Iterator[str]:
    """Every name that an import statement mentions, dotted in full: `from a import b` is a.b."""
    for node in module.nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module.name}: line {node.lineno}: a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def used(module: Module, package: Package) -> set[str]:
    """The modules of the package that `module` imports; names inside of them are cut off."""
    found = set()
    for name in imported(module):
        parts = name.split(".")
        if parts[0] == PACKAGE:
            ends = range(len(parts), 1, -1)
            candidates = (".".join(parts[1:end]) for end in ends)
            found.add(next((name for name in candidates if name in package), "__init__"))
    return found - {module.name}


def begins(name: str, beginnings: tuple[str, ...] | set[str]) -> bool:
    return any(name == each or name.startswith(f"{each}.") for each in beginnings)


def layer_problems(package: Package) -> Iterator[str]:
    for module in package.values():
        if module.room not in MAY_USE:
            yield f"{module.name}: has no row in MAY_USE"
            continue
        allowed = MAY_USE[module.room] | {module.room, "__init__"}
        for name in sorted(used(module, package)):
            if not begins(name, allowed):
                yield f"{module.name}: must not use {name}"


def outside_problems(package: Package) -> Iterator[str]:
    for module in package.values():
        for name in sorted(set(imported(module))):
            for library, homes in ONLY_IN.items():
                at_home = any(module.name.startswith(home) for home in homes)
                if begins(name, (library,)) and not at_home:
                    yield f"{module.name}: must not import {library}"


def cycle_problems(package: Package) -> Iterator[str]:
    graph = {name: used(module, package) for name, module in package.items()}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        yield f"a cycle of imports: {' <- '.join(error.args[1])}"


def annotation_problems(package: Package) -> Iterator[str]:
    """Annotations of Structs are resolved at run time: what they name must exist then."""
    structs = struct_classes(package)
    for module in package.values():
        names = {node.name for node in module.nodes if isinstance(node, ast.ClassDef)}
        if names & structs and "TYPE_CHECKING" in module.source:
            yield f"{module.name}: defines Structs and must not use TYPE_CHECKING"


def struct_classes(package: Package) -> set[str]:
    """Names of all classes that derive from Struct, directly or not."""
    bases = {
        node.name: {ast.unparse(base).rpartition(".")[2] for base in node.bases}
        for module in package.values()
        for node in module.nodes
        if isinstance(node, ast.ClassDef)
    }
    found = {"Struct"}
    while more := {name for name, its in bases.items() if its & found} - found:
        found |= more
    return found


def shell_problems(package: Package) -> Iterator[str]:
    for module in package.values():
        calls = [node for node in module.nodes if isinstance(node, ast.Call)]
        for call in calls:
            shell = [keyword.value for keyword in call.keywords if keyword.arg == "shell"]
            if any(not (isinstance(value, ast.Constant) and not value.value) for value in shell):
                yield f"{module.name}: line {call.lineno}: a shell"
            if ast.unparse(call.func) in SHELLS:
                yield f"{module.name}: line {call.lineno}: a shell"
        yield from (f"{module.name}: a shell" for name in imported(module) if name in SHELLS)


def imports_stress(module: Module) -> bool:
    return any(begins(name, ("stress",)) for name in imported(module))


RULES = [layer_problems, outside_problems, cycle_problems, annotation_problems, shell_problems]

BROKEN = [
    ("a: has no row in MAY_USE", {"a": ""}),
    ("model: must not use stores.local", {"model": "import packer_fork.stores.local"}),
    ("packer.tail: must not use manager", {"packer.tail": "from packer_fork import manager"}),
    ("template.hcl: must not use inputs", {"template.hcl": "import packer_fork.inputs"}),
    (
        "views.plain: must not use codec",
        {"views.plain": "def f():\n from packer_fork import codec"},
    ),
    ("cli.build: must not use packer", {"cli.build": "from packer_fork.packer import mask"}),
    ("views.plain: must not import rich", {"views.plain": "from rich.console import Console"}),
    ("stores.base: must not import portalocker", {"stores.base": "import portalocker"}),
    ("inputs: must not import http", {"inputs": "import http.client"}),
    (
        "stores.local: must not import urllib.request",
        {"stores.local": "from urllib import request"},
    ),
    ("cli.main: must not import click", {"cli.main": "import click"}),
    (
        "a cycle of imports: views.a <- views.b <- views.a",
        {
            "views.a": "from packer_fork.views.b import name",
            "views.b": "def f():\n import packer_fork.views.a",
        },
    ),
    (
        "model: defines Structs and must not use TYPE_CHECKING",
        {
            "model": "from typing import TYPE_CHECKING\nclass A(Document): ...",
            "locks": "class Document(msgspec.Struct): ...",
        },
    ),
    ("host: line 1: a shell", {"host": "run('ls', shell=True)"}),
    ("host: line 1: a shell", {"host": "os.system('ls')"}),
    ("host: a shell", {"host": "from os import popen"}),
]


def problems(package: Package) -> list[str]:
    return [problem for rule in RULES for problem in rule(package)]


@pytest.mark.parametrize("rule", RULES)
def test_package_keeps(rule: Callable[[Package], Iterator[str]]) -> None:
    package = parsed_below(Path(packer_fork.__file__).parent)
    assert "stores.local" in package
    found = list(rule(package))
    assert not found, "\n".join(found)


@pytest.mark.parametrize("folder", ["tests", "stress"])
def test_nothing_beside_the_package_uses_a_shell(folder: str) -> None:
    package = parsed_below(ROOT / folder)
    assert package
    found = list(shell_problems(package))
    assert not found, "\n".join(found)


def test_tests_do_not_import_the_stress_suite() -> None:
    package = parsed_below(ROOT / "tests")
    importers = [name for name, module in package.items() if imports_stress(module)]
    assert not importers, importers
    assert imports_stress(parse({"a": "from stress import meter"})["a"])


def test_helpers_of_tests_stand_in_support() -> None:
    tests = ROOT / "tests"
    helpers = {
        path.relative_to(tests).as_posix()
        for path in tests.rglob("*.py")
        if not path.name.startswith("test_") and path.name != "conftest.py"
    }
    strays = {path for path in helpers if path.split("/")[0] not in ("support", "examples")}
    assert helpers - strays
    assert not strays


@pytest.mark.parametrize(("problem", "sources"), BROKEN)
def test_broken_rule_is_seen(problem: str, sources: dict[str, str]) -> None:
    known = dict.fromkeys(["__init__", "codec", "inputs", "manager", "packer", "stores.local"], "")
    assert problems(parse(known | sources)) == [problem]


@pytest.mark.processes
def test_top_level_of_the_repository() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout; `make check` looks at it in one")
    listing = subprocess.run(
        # A container's user need not own the checkout.
        ["git", "-c", f"safe.directory={ROOT}", "ls-files", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert listing.returncode == 0, listing.stderr
    names = {path.partition("/")[0] for path in listing.stdout.split("\0") if path}
    assert {name for name in names if not name.startswith(".")} == TOP_LEVEL
