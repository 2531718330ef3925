"""What has to be known before Packer is started: the program, the builds, the secrets."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct, structs

from packer_fork.config import Settings
from packer_fork.manager.locate import Template
from packer_fork.packer import outline, program, selection
from packer_fork.packer.evaluate import Evaluator
from packer_fork.packer.flags import PackerFlags
from packer_fork.packer.outline import BuildOutline
from packer_fork.packer.program import Program
from packer_fork.packer.sensitive import Sensitive, collect


class Prepared(Struct, frozen=True, kw_only=True):
    """``outlines``: the builds that Packer will make, as far as it tells beforehand; ``names``:
    those of all builds of the template, chosen or not; ``called``: by them, what the template calls
    a build where that differs. ``is_complete``: Packer makes no other
    builds than ``outlines``. ``sensitive``: empty before `with_secrets`.
    """

    program: Program
    outlines: tuple[BuildOutline, ...]
    names: tuple[str, ...]
    called: Mapping[str, str]
    is_complete: bool
    hcl: bool
    sensitive: Sensitive = Sensitive()

    @property
    def is_empty(self) -> bool:
        """Whether Packer would build nothing at all."""
        return self.is_complete and not self.outlines


def prepare(
    template: Template, flags: PackerFlags, settings: Settings, environ: Mapping[str, str]
) -> Prepared:
    """Raises PackerError where Packer is missing."""
    found = program.find(settings.packer)
    inspected = program.inspect(found, flags, template.given, environ)
    hcl = outline.is_hcl(template.path)
    evaluate = Evaluator(found, template.given, flags, environ)
    every = outline.outline(inspected or "", template.path, evaluate, found.version)
    names = tuple(dict.fromkeys(each.name for each in every.builds))
    return Prepared(
        program=found,
        outlines=outline.chosen(every.builds, flags.only, flags.except_, hcl=hcl),
        names=names,
        called={each.name: each.called for each in every.builds if each.called},
        is_complete=every.is_complete or _are_named(flags.only, names),
        hcl=hcl,
    )


def _are_named(patterns: tuple[str, ...], names: tuple[str, ...]) -> bool:
    """Whether ``-only`` names builds that are known, each in full: then no other is chosen."""
    return bool(patterns) and set(patterns) <= set(names)


def with_secrets(
    prepared: Prepared, template: Template, flags: PackerFlags, environ: Mapping[str, str]
) -> Prepared:
    """Raises TemplateError where the template cannot be searched for them."""
    sensitive = collect(prepared.program, template.given, flags, environ)
    return structs.replace(prepared, sensitive=sensitive)


def only(prepared: Prepared, flags: PackerFlags, names: tuple[str, ...]) -> PackerFlags | None:
    """The user's flags with an ``-only`` for exactly `names`; None if there is none."""
    patterns = selection.naming(names, hcl=prepared.hcl)
    known = [each.name for each in prepared.outlines]
    found = selection.select(known, patterns, flags.except_, hcl=prepared.hcl) if patterns else ()
    if found != names or outline.shared_names(prepared.outlines):
        return None
    return flags.with_only(patterns)
