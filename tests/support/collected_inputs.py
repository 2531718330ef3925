"""Collecting the inputs of a template as a command would, with real Packer."""

import os
from pathlib import Path
from typing import Any

import msgspec
from msgspec import structs

from packer_fork.inputs.cache import DigestCache
from packer_fork.inputs.collect import collected, planned_by, said_of
from packer_fork.inputs.declared import Collected, Declared, References, declared_by
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
    environ = changed.pop("environ", {**os.environ, "GOGC": "off"})
    packer = program.find(None)
    evaluate = Evaluator(packer, str(root / template), packer_flags, environ)
    inspected = program.inspect(packer, packer_flags, str(root / template), environ).output()
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
    full = InputsRequest(cache=cache, **(request | changed))
    found = collected(full)
    cache.save()
    if found.references is not None:
        assert_recalled(found, structs.replace(full, cache=DigestCache(None)))
    return found.declared.inputs


def kept(references: References) -> References:
    """As they come back from a file."""
    return msgspec.msgpack.decode(msgspec.msgpack.encode(references), type=References)


def assert_recalled(found: Collected, request: InputsRequest) -> None:
    """Whether what was found is the same without Packer, by what is kept of it."""
    assert found.references is not None
    again = declared_by(
        kept(found.references),
        request,
        said=lambda name: said_of(request, name),
        planned=planned_by(request),
    )
    assert again is not None
    assert outcome(again) == outcome(found.declared)


def outcome(declared: Declared) -> dict[str, object]:
    """All that may decide of a build whether it is up to date, and whose a file is."""
    names = (*declared.inputs.builds, "another")
    paths = (*declared.files, "/elsewhere", f"{declared.root}/crash.log", f"{declared.root}/.git/x")
    return {
        "inputs": declared.inputs,
        "fingerprint": declared.inputs.fingerprint,
        "root": declared.root,
        "folders": declared.folders,
        "files": {path: known[4] for path, known in declared.files.items()},
        "loaded": declared.loaded,
        "evaluated": declared.evaluated,
        "named": {name: declared.named(name) for name in names},
        "said": {name: declared.said(name) for name in names},
        "effects": {
            name: (each.unknown, each.trusted, each.untracked)
            for name, each in declared.provenance.items()
        },
        "artifacts": declared.artifacts,
        "manifests": declared.manifests,
        "makes": {(name, path): declared.makes(name, path) for name in names for path in paths},
        "planned": {name: declared.planned(name) for name in names},
        "excluded": {p: (declared.is_ignored(p), declared.is_output(p)) for p in paths},
    }


def files(inputs: Inputs) -> set[str]:
    """Names of the files that were found to be referred to."""
    return {key.removeprefix("file ") for key in inputs.entries if key.startswith("file ")}
