"""What has to be known before Packer is started: the program, the builds, the secrets."""

from __future__ import annotations

import contextlib
import stat
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from msgspec import Struct, structs

from packer_fork.config import Settings
from packer_fork.errors import TemplateError
from packer_fork.events import Notify
from packer_fork.inputs.declared import Declared
from packer_fork.inputs.request import CommandOutput
from packer_fork.inputs.tree import keyed
from packer_fork.manager.state_ref import StateRef, Template
from packer_fork.model import State
from packer_fork.packer import outline, plugins, program, selection
from packer_fork.packer.flags import PackerFlags
from packer_fork.packer.mask import Sensitive
from packer_fork.packer.outline import BuildOutline
from packer_fork.packer.program import Program
from packer_fork.packer.validate import Checked, Validation, may_have_data
from packer_fork.template import reader
from packer_fork.template.reader import ParsedTemplate


class BuildRequest(Struct, frozen=True, kw_only=True):
    """What the user asked for. ``settings`` are the flags that set one, None if not given."""

    template: str
    flags: PackerFlags
    settings: Mapping[str, Any]
    environ: Mapping[str, str]
    rebuild: bool = False

    @property
    def on_record(self) -> tuple[str, ...]:
        """The command line as it is recorded, without the values of variables."""
        return ("packer-fork", "build", *self.flags.without_values(), self.template)


_NOT_OF_PACKER = frozenset(("_", "SHLVL", "OLDPWD", "TERM", "COLUMNS", "LINES"))
"""Variables of the environment by which a shell goes on, and nothing changes for Packer."""


class PlanningContext(Struct, frozen=True, kw_only=True):
    """What a plan rests on before Packer is asked anything.

    ``environ``: without the secrets of the store. ``state``: None before the first build.
    """

    template: Template
    flags: PackerFlags
    place: StateRef
    environ: Mapping[str, str]
    state: State | None
    notify: Notify

    @property
    def settings(self) -> Settings:
        return self.place.settings


class Acceptances:
    """What ``packer validate`` accepted of one template, in one environment.

    `known` are digests, keyed with `key`, of arguments that Packer accepted earlier.
    """

    def __init__(
        self, environ: Mapping[str, str], key: bytes = b"", known: Collection[str] = ()
    ) -> None:
        self._environ = environ
        self._key = key
        self._known = dict.fromkeys(known)
        self._accepted: dict[tuple[str, ...], None] = {}
        self._running: dict[tuple[str, ...], Validation] = {}
        self._refused: dict[tuple[str, ...], Checked] = {}

    @property
    def is_new(self) -> bool:
        """Whether Packer accepted more than was known."""
        return bool(self._accepted)

    def expect(self, arguments: tuple[str, ...], validation: Validation) -> None:
        """Take the result of a running validation once it is needed."""
        self._running[arguments] = validation

    def close(self) -> None:
        """End the validations whose results nobody needed."""
        while self._running:
            self._running.popitem()[1].close()

    def accepts(self, arguments: tuple[str, ...]) -> bool:
        self._settle()
        if arguments in self._accepted:
            return True
        return bool(self._known) and self._digest(arguments, self._key) in self._known

    def add(self, arguments: tuple[str, ...]) -> None:
        self._accepted[arguments] = None

    def refusal(self, arguments: tuple[str, ...]) -> Checked | None:
        """The result of an expected validation that did not accept; given only once."""
        return self._refused.pop(arguments, None)

    def digests(self, key: bytes) -> tuple[str, ...]:
        """All that Packer accepted, the newest last."""
        return (*self._known, *(self._digest(each, key) for each in self._accepted))

    def _settle(self) -> None:
        while self._running:
            arguments, validation = self._running.popitem()
            result = validation.result()
            if result.is_accepted:
                self.add(arguments)
            else:
                self._refused[arguments] = result

    def _digest(self, arguments: tuple[str, ...], key: bytes) -> str:
        names = self._environ.keys() - _NOT_OF_PACKER
        kept = sorted((name, self._environ[name]) for name in names)
        return keyed(key, f"validate\0{arguments!r}\0{kept!r}")


class Recalled(Struct, frozen=True):
    """Inputs that are known without Packer, of the state at ``serial``. ``untracked``: see
    ``Plan``; ``name``: of the entry in the cache.
    """

    serial: int
    declared: Declared
    untracked: tuple[str, ...]
    name: str


class Prepared(Struct, frozen=True, kw_only=True):
    """``template``: as it was read, once. ``outlines``: the builds that Packer will make, as far
    as it tells beforehand; ``every``: all builds of the template, chosen or not.
    ``is_complete``: Packer makes no other builds than ``outlines``. ``sensitive``: empty before
    `with_secrets`. ``plugins``: versions by name, empty where ``recalled``; ``basis``: what
    Packer's answers rest on, see ``evaluation``; ``recalled``: None where it was asked.
    ``command_outputs``: of ``input_commands``; None where they have yet to run.
    """

    program: Program
    template: ParsedTemplate
    outlines: tuple[BuildOutline, ...]
    every: tuple[BuildOutline, ...]
    is_complete: bool
    acceptances: Acceptances
    sensitive: Sensitive = Sensitive()
    plugins: Mapping[str, str] = {}
    basis: bytes = b""
    recalled: Recalled | None = None
    command_outputs: tuple[CommandOutput, ...] | None = None

    def is_older_than(self, state: State) -> bool:
        """Whether it was recalled for another state, with other results."""
        return self.recalled is not None and self.recalled.serial != state.serial

    @property
    def is_empty(self) -> bool:
        """Whether Packer would build nothing at all."""
        return self.is_complete and not self.outlines


def prepare(
    template: Template, flags: PackerFlags, settings: Settings, environ: Mapping[str, str]
) -> Prepared:
    """Raises PackerError where Packer is missing, TemplateError where a file cannot be read."""
    parsed = read(template, flags)
    return ask(parsed, program.find(settings.packer), flags, environ)


def read(template: Template, flags: PackerFlags) -> ParsedTemplate:
    """Raises TemplateError where a file cannot be read, or only once."""
    _require_lasting(flags)
    return reader.read(template.given, flags.variable_files)


def ask(
    parsed: ParsedTemplate,
    found: Program,
    flags: PackerFlags,
    environ: Mapping[str, str],
    *,
    validates: bool = False,
) -> Prepared:
    """What Packer `found` tells of a template.

    `validates`: also ask ``packer validate``, side by side with the other questions. The caller
    closes the acceptances then. A template with data blocks is not validated, as each question
    may run its data sources.
    """
    acceptances = Acceptances(environ)
    from packer_fork.packer.question import Question

    with contextlib.ExitStack() as asked:
        inspection = asked.enter_context(
            Question(program.inspect_command(found, flags, parsed.given), environ)
        )
        listing = plugins.installed(found, environ)
        if listing is not None:
            asked.enter_context(listing)
        # The template is parsed, and what that takes is imported, while Packer starts.
        from packer_fork.packer.evaluate import Evaluator

        _ = parsed.contents
        arguments = flags.validate_arguments()
        if validates and arguments is not None and not may_have_data(parsed):
            acceptances.expect(arguments, Validation(found, parsed, arguments, environ))
            asked.callback(acceptances.close)
        inspected = inspection.output()
        in_use = plugins.in_use(found, environ, listing.output() if listing else None)
        evaluate = Evaluator(found, parsed.given, flags, environ)
        every = outline.outline(inspected or "", parsed, evaluate, found.version)
        asked.pop_all()  # the validation goes on
    selectors = {each.selector for each in every.builds}
    return Prepared(
        program=found,
        template=parsed,
        outlines=outline.chosen(every.builds, flags.only, flags.except_, hcl=parsed.is_hcl),
        every=every.builds,
        is_complete=every.is_complete or _are_named(flags.only, selectors),
        acceptances=acceptances,
        plugins=in_use,
    )


def _require_lasting(flags: PackerFlags) -> None:
    """Packer is asked several things, each time with all variables files."""
    for name in flags.variable_files:
        if _is_passing(name):
            raise TemplateError(
                f"The variables file {name} can be read only once, and Packer is asked "
                "several times.",
                hint="Write the variables to a file, or pass them as PKR_VAR_NAME or -var.",
            )


def _is_passing(path: str) -> bool:
    """Whether `path` is a pipe, or an open file of this process, which Packer does not have."""
    if path == "/dev/stdin" or path.startswith(("/dev/fd/", "/proc/self/fd/")):
        return True
    try:
        return stat.S_ISFIFO(Path(path).stat().st_mode)
    except (OSError, ValueError):
        return False


def _are_named(patterns: tuple[str, ...], selectors: Collection[str]) -> bool:
    """Whether ``-only`` names builds that are known, each in full: then no other is chosen."""
    return bool(patterns) and all(pattern in selectors for pattern in patterns)


def with_secrets(
    prepared: Prepared,
    flags: PackerFlags,
    environ: Mapping[str, str],
    told: Mapping[str, object] = {},
) -> Prepared:
    """`told`: what Packer evaluated of this template, by expression, and is not asked again.

    Raises TemplateError where the template cannot be searched for them.
    """
    from packer_fork.packer import sensitive

    found = sensitive.collect(prepared.program, prepared.template, flags, environ, told)
    return structs.replace(prepared, sensitive=found)


def only(prepared: Prepared, flags: PackerFlags, names: tuple[str, ...]) -> PackerFlags | None:
    """The user's flags with an ``-only`` for exactly `names`; None if there is none."""
    hcl = prepared.template.is_hcl
    wanted = [each for each in prepared.outlines if each.name in names]
    patterns = selection.naming([each.selector for each in wanted], hcl=hcl)
    found = outline.chosen(prepared.outlines, patterns, flags.except_, hcl=hcl)
    is_exact = bool(patterns) and tuple(each.name for each in found) == names
    if not is_exact or outline.shared_names(prepared.outlines):
        return None
    return flags.with_only(patterns)
