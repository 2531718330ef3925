"""What was asked of Packer before, recalled as long as nothing changed that it rests on.

It is kept beside the state, in a file that any command may delete: names of builds and steps,
paths, keyed digests, and no value of a variable. An entry is found by a digest of what Packer
loads (program, plugins, configuration, template, variables), and is taken only if what the
template refers to, in the environment and the file system, is still what it was.

Never kept: what another moment, a server or a data source may answer in another way; what a
script says that passes for Packer; what holds a secret.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path

import msgspec
from msgspec import Struct, structs

from packer_fork import durable
from packer_fork.errors import TemplateError
from packer_fork.inputs import declared
from packer_fork.inputs.declared import Collected, References, declared_by
from packer_fork.inputs.request import CommandOutput, InputsRequest
from packer_fork.malformed import MALFORMED
from packer_fork.manager.build.plan import (
    digest_cache,
    key_of,
    names_of,
    request_of,
    with_command_outputs,
)
from packer_fork.manager.build.prepare import (
    Acceptances,
    PlanningContext,
    Prepared,
    Recalled,
    ask,
    read,
)
from packer_fork.manager.state_ref import StateRef
from packer_fork.packer import outline, plugins, program
from packer_fork.packer.flags import PackerFlags
from packer_fork.packer.outline import BuildOutline
from packer_fork.packer.program import Program
from packer_fork.template import reader
from packer_fork.template.planned import PlannedBuild
from packer_fork.template.reader import ParsedTemplate

_FORMAT = 1
_FILE = "evaluations"
_MOST_ENTRIES = 8
_MOST_BYTES = 16 << 20
_MOST_ACCEPTANCES = 20
_MOST_CONFIGURATION = 1 << 20
_PROGRAMS = (b"builders", b"provisioners", b"post-processors", b"datasources", b"commands")
"""Keys of Packer's configuration that name programs."""

_BEARING = ("PACKER_", "PKR_VAR_", "ANSIBLE_", "HCP_")
_IGNORED = ("PACKER_LOG", "PACKER_FORK_")
_PLACES = ("HOME", "PWD", "XDG_CONFIG_HOME")
"""Variables of the environment that bear on what Packer answers, by how they begin, or in full."""


class Entry(Struct, frozen=True, kw_only=True):
    """``accepted``: see ``Acceptances``; all else as in ``Prepared`` and ``Plan``."""

    outlines: tuple[BuildOutline, ...]
    every: tuple[BuildOutline, ...]
    references: References
    untracked: tuple[str, ...]
    accepted: tuple[str, ...]


class _Kept(Struct, frozen=True):
    """``seals``: digests keyed by the state's key, of each entry with its name."""

    seals: dict[str, bytes]
    entries: dict[str, bytes]


def evaluate(context: PlanningContext, *, validates: bool = True) -> Prepared:
    """Recalled, or asked of Packer. Raises PackerError, TemplateError.

    `validates`: see `ask`; the caller closes the acceptances.
    """
    parsed = read(context.template, context.flags)
    found = program.find(context.settings.packer)
    basis = _basis(context, parsed, found)
    outputs: tuple[CommandOutput, ...] | None = None
    if basis and context.state:
        request = request_of(context, parsed, found, digest_cache(context))
        request = with_command_outputs(context, request)
        recalled = _recalled(context, request, found, basis)
        if recalled is not None:
            return recalled
        outputs = request.command_outputs
    # Without a cache, even an up-to-date build gets here, and needs no validation.
    likely_builds = bool(basis) or context.state is None
    asked = ask(
        parsed, found, context.flags, context.environ, validates=validates and likely_builds
    )
    return structs.replace(asked, basis=basis, command_outputs=outputs)


def _recalled(
    context: PlanningContext, request: InputsRequest, found: Program, basis: bytes
) -> Prepared | None:
    name = _name(basis, request)
    entry = entry_in(_path(context.place), request.key, name)
    if entry is None or context.state is None:
        return None
    request = structs.replace(request, builds=names_of(entry.every))
    planned_builds = cache(lambda: _planned(request, found, context.flags))

    def planned(name: str) -> PlannedBuild | None:
        return planned_builds()(name)

    recalled = declared_by(
        entry.references,
        request,
        said=lambda name: _said(request, name),
        planned=planned,
    )
    if recalled is None:
        return None
    return Prepared(
        program=found,
        template=request.template,
        outlines=entry.outlines,
        every=entry.every,
        is_complete=True,
        basis=basis,
        recalled=Recalled(context.state.serial, recalled, entry.untracked, name),
        acceptances=Acceptances(request.environ, request.key, entry.accepted),
    )


def _planned(
    request: InputsRequest, found: Program, flags: PackerFlags
) -> Callable[[str], PlannedBuild | None]:
    """What each build will run; for that, Packer is asked for values where the template has any."""
    from packer_fork.inputs.collect import planned_by
    from packer_fork.packer.evaluate import Evaluator

    evaluate = Evaluator(found, request.template.given, flags, request.environ)
    return planned_by(structs.replace(request, evaluate=evaluate))


def _said(request: InputsRequest, name: str) -> str:
    """What the template says of a build, which is parsed only where that is needed."""
    from packer_fork.inputs.collect import said_of

    return said_of(request, name)


def keep(
    context: PlanningContext,
    prepared: Prepared,
    collected: Collected,
    untracked: tuple[str, ...],
) -> None:
    """Keep what Packer answered, unless what that rests on has changed meanwhile."""
    request, references = collected.request, collected.references
    if not (prepared.basis and request.key and references and prepared.is_complete):
        return
    from packer_fork.packer import sensitive

    parsed, flags, environ = prepared.template, context.flags, context.environ
    with contextlib.suppress(TemplateError):
        secrets = sensitive.among(collected.values, parsed, flags, environ)
        is_same = _basis(context, parsed, prepared.program) == prepared.basis
        if secrets is not None and is_same and reader.is_current(parsed):
            entry = Entry(
                outlines=prepared.outlines,
                every=prepared.every,
                references=references,
                untracked=untracked,
                accepted=_accepted(prepared, references, request.key),
            )
            name = _name(prepared.basis, request)
            _write(_path(context.place), request.key, name, entry, secrets)


def keep_acceptances(context: PlanningContext, prepared: Prepared) -> None:
    """Of a template that was recalled, what Packer has accepted since."""
    place, key = context.place, key_of(context.state)
    known, recalled = prepared.acceptances, prepared.recalled
    if recalled is None or not known.is_new:
        return
    entry = entry_in(_path(place), key, recalled.name)
    if entry is not None and entry.references.is_checked_by_paths:
        accepted = _accepted(prepared, entry.references, key)
        _write(_path(place), key, recalled.name, structs.replace(entry, accepted=accepted), ())


def _accepted(prepared: Prepared, references: References, key: bytes) -> tuple[str, ...]:
    if not references.is_checked_by_paths:
        return ()
    return prepared.acceptances.digests(key)[-_MOST_ACCEPTANCES:]


def _path(place: StateRef) -> Path:
    return place.folder.folder / _FILE


def _name(basis: bytes, request: InputsRequest) -> str:
    """What an entry goes by: all that its inputs rest on but for the file system."""
    made = ((name, sorted({*map(str, paths)})) for name, paths in request.outputs.items())
    outputs = {name: paths for name, paths in made if paths}
    commands = [(each.command, each.digest, each.failure) for each in request.command_outputs]
    declared = [(name, request.environ.get(name)) for name in request.input_env]
    rest = (basis, outputs, sorted(map(str, request.born)), commands, declared)
    encoded = msgspec.json.encode(rest, order="deterministic")
    return hmac.digest(request.key, encoded, "sha256").hex()


def _basis(context: PlanningContext, parsed: ParsedTemplate, found: Program) -> bytes:
    """Digest of what Packer loads before it looks into the template; empty if it is not known."""
    template, flags, settings = context.template, context.flags, context.settings
    environ = context.environ
    binary = program.signature(Path(found.path).resolve())
    installed = plugins.signatures(found, environ)
    arguments = flags.validate_arguments()
    files = (*parsed.files, *parsed.variable_files)
    if not all(file.is_regular for file in files):
        return b""
    if not binary or installed is None or arguments is None or "HOME" not in environ:
        return b""
    try:
        code = _code()
        configuration = list(_configuration(environ))
    except OSError:
        return b""
    texts = [(str(each.path), hashlib.sha256(each.source).digest()) for each in files]
    known = {name: text for name, text in environ.items() if _is_bearing(name)}
    chosen = (settings.inputs, settings.input_env, settings.ignore, settings.assume_unchanged)
    rest = (
        (_FORMAT, code, found.path, found.version_text, binary, installed),
        (template.given, str(template.path), str(template.project), os.getcwd()),  # noqa: PTH109
        (arguments, flags.bearing_on_results, sorted(known.items())),
        (chosen, settings.ignore_vars),
        (configuration, texts),
    )
    return hashlib.sha256(repr(rest).encode("utf-8", "surrogateescape")).digest()


def _code() -> list[tuple[str, int, int]]:
    """Name, size and mtime of the modules that decide: another release reads otherwise.

    Raises OSError.
    """
    found = []
    for path in (__file__, declared.__file__, outline.__file__, reader.__file__):
        with os.scandir(Path(path).parent) as entries:
            modules = [(each.name, each.stat()) for each in entries if each.name.endswith(".py")]
        found += sorted((name, status.st_size, status.st_mtime_ns) for name, status in modules)
    return found


def _is_bearing(name: str) -> bool:
    return name in _PLACES or (name.startswith(_BEARING) and not name.startswith(_IGNORED))


def _configuration(environ: Mapping[str, str]) -> Iterator[tuple[str, bytes]]:
    """Packer's own configuration. Raises OSError where it cannot be read, or names programs."""
    path = Path(environ.get("PACKER_CONFIG") or Path(environ["HOME"], ".packerconfig"))
    text = durable.read(path, _MOST_CONFIGURATION)
    if text is not None:
        if any(name in text.lower() for name in _PROGRAMS):
            raise OSError(f"{path} names programs")
        yield str(path), text


def entry_in(path: Path, key: bytes, name: str) -> Entry | None:
    """The entry of this name in the file `path`; None if there is none, or it is damaged."""
    kept = _read(path)
    data = kept.entries.get(name, b"")
    if not hmac.compare_digest(kept.seals.get(name, b""), _seal(key, name, data)):
        return None
    try:
        return msgspec.msgpack.decode(data, type=Entry)
    except MALFORMED:
        return None


def _write(path: Path, key: bytes, name: str, entry: Entry, secrets: Iterable[str]) -> None:
    """Put an entry among the newest; one that cannot be written is done without."""
    with contextlib.suppress(OSError, UnicodeEncodeError):
        data = msgspec.msgpack.encode(entry)
        if any(secret.encode("utf-8", "surrogateescape") in data for secret in secrets):
            return
        kept = _read(path)
        older = [each for each in kept.entries if each != name][1 - _MOST_ENTRIES :]
        entries = {each: kept.entries[each] for each in older} | {name: data}
        seals = {each: kept.seals.get(each, b"") for each in older} | {name: _seal(key, name, data)}
        encoded = msgspec.msgpack.encode(_Kept(seals, entries))
        if len(encoded) > _MOST_BYTES:
            encoded = msgspec.msgpack.encode(_Kept({name: seals[name]}, {name: data}))
        if len(encoded) <= _MOST_BYTES:
            durable.replace(path, encoded, durable=False)


def _read(path: Path) -> _Kept:
    try:
        data = durable.read(path, _MOST_BYTES)
        return msgspec.msgpack.decode(data, type=_Kept) if data else _Kept({}, {})
    except (OSError, *MALFORMED):
        return _Kept({}, {})


def _seal(key: bytes, name: str, data: bytes) -> bytes:
    return hmac.digest(key, name.encode() + b"\0" + data, "sha256")
