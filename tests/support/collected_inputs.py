"""Collecting the inputs of a template as a command would, with real Packer."""

import os
from pathlib import Path
from typing import Any

from packer_fork.inputs.cache import DigestCache
from packer_fork.inputs.collect import collect
from packer_fork.inputs.record import Inputs, TemplateInputs
from packer_fork.inputs.request import InputsRequest
from packer_fork.packer import outline, program
from packer_fork.packer.evaluate import Evaluator
from packer_fork.packer.flags import take
from packer_fork.template.reader import read

KEY = b"a key of the state"


def inputs_of(root: Path, template: str, *flags: str, **changed: Any) -> Inputs:
    """Those of all builds of `template`, as if they were one."""
    builds = builds_of(root, template, *flags, **changed)
    every = [inputs for name in builds.builds if (inputs := builds.of(name)) is not None]
    return Inputs(
        entries={key: text for inputs in every for key, text in inputs.entries.items()},
        unknown=tuple(dict.fromkeys(what for inputs in every for what in inputs.unknown)),
    )


def builds_of(root: Path, template: str, *flags: str, **changed: Any) -> TemplateInputs:
    """The inputs of each build in `root`, which is also where Packer would be started."""
    packer_flags, _ = take(flags)
    environ = changed.pop("environ", dict(os.environ))
    packer = program.find(None)
    evaluate = Evaluator(packer, str(root / template), packer_flags, environ)
    inspected = program.inspect(packer, packer_flags, str(root / template), environ)
    variable_files = (str(root / name) for name in packer_flags.variable_files)
    parsed = read(str(root / template), variable_files)
    outlines = outline.outline(inspected or "", parsed, evaluate, packer.version)
    request = {
        "template": parsed,
        "builds": {each.name: each.called or each.name for each in outlines.builds}
        or {"null.n": "null.n"},
        "root": root,
        "directory": root,
        "key": KEY,
        "evaluate": evaluate,
        "environ": environ,
        "packer_version": "1.6.6",
        "assignments": tuple(f.value for f in packer_flags.variables if f.name == "var"),
    }
    cache = DigestCache(changed.pop("cache", None))
    inputs = collect(InputsRequest(cache=cache, **(request | changed))).inputs
    cache.save()
    return inputs


def files(inputs: Inputs) -> set[str]:
    """Names of the files that were found to be referred to."""
    return {key.removeprefix("file ") for key in inputs.entries if key.startswith("file ")}
