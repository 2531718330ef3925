"""What has to be known before Packer is started: the program, the builds, the secrets."""

from __future__ import annotations

import stat
from collections.abc import Collection, Mapping
from pathlib import Path

from msgspec import Struct, structs

from packer_fork.config import Settings
from packer_fork.errors import TemplateError
from packer_fork.manager.locate import Template
from packer_fork.packer import outline, program, selection
from packer_fork.packer.evaluate import Evaluator
from packer_fork.packer.flags import PackerFlags
from packer_fork.packer.outline import BuildOutline
from packer_fork.packer.program import Program
from packer_fork.packer.sensitive import Sensitive, collect
from packer_fork.template.reader import ParsedTemplate, read


class Prepared(Struct, frozen=True, kw_only=True):
    """``template``: as it was read, once. ``outlines``: the builds that Packer will make, as far
    as it tells beforehand; ``every``: all builds of the template, chosen or not.
    ``is_complete``: Packer makes no other builds than ``outlines``. ``sensitive``: empty before
    `with_secrets`.
    """

    program: Program
    template: ParsedTemplate
    outlines: tuple[BuildOutline, ...]
    every: tuple[BuildOutline, ...]
    is_complete: bool
    sensitive: Sensitive = Sensitive()

    @property
    def is_empty(self) -> bool:
        """Whether Packer would build nothing at all."""
        return self.is_complete and not self.outlines


def prepare(
    template: Template, flags: PackerFlags, settings: Settings, environ: Mapping[str, str]
) -> Prepared:
    """Raises PackerError where Packer is missing, TemplateError where a file cannot be read."""
    _require_lasting(flags)
    parsed = read(template.given, flags.variable_files)
    found = program.find(settings.packer)
    inspected = program.inspect(found, flags, template.given, environ)
    evaluate = Evaluator(found, template.given, flags, environ)
    every = outline.outline(inspected or "", parsed, evaluate, found.version)
    selectors = {each.selector for each in every.builds}
    return Prepared(
        program=found,
        template=parsed,
        outlines=outline.chosen(every.builds, flags.only, flags.except_, hcl=parsed.is_hcl),
        every=every.builds,
        is_complete=every.is_complete or _are_named(flags.only, selectors),
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


def with_secrets(prepared: Prepared, flags: PackerFlags, environ: Mapping[str, str]) -> Prepared:
    """Raises TemplateError where the template cannot be searched for them."""
    sensitive = collect(prepared.program, prepared.template, flags, environ)
    return structs.replace(prepared, sensitive=sensitive)


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
