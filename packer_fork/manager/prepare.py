"""What has to be known before Packer is started: the program, the builds, the secrets."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from packer_fork.config import Settings
from packer_fork.manager.locate import Template
from packer_fork.packer import outline, program
from packer_fork.packer.flags import PackerFlags
from packer_fork.packer.outline import BuildOutline
from packer_fork.packer.program import Program
from packer_fork.packer.sensitive import Sensitive, collect


class Prepared(Struct, frozen=True):
    """``outlines``: the builds that Packer will make, as far as it tells beforehand; ``names``:
    those of all builds of the template, chosen or not.
    """

    program: Program
    outlines: tuple[BuildOutline, ...]
    names: tuple[str, ...]
    sensitive: Sensitive
    hcl: bool


def prepare(
    template: Template, flags: PackerFlags, settings: Settings, environ: Mapping[str, str]
) -> Prepared:
    """Raises PackerError or TemplateError where a build could not even begin."""
    found = program.find(settings.packer)
    inspected = program.inspect(found, flags, template.given, environ)
    sensitive = collect(found, template.given, flags, environ)
    hcl = outline.is_hcl(template.path)
    every = outline.outline(inspected, template.path)
    names = tuple(dict.fromkeys(each.name for each in every))
    chosen = outline.chosen(every, flags.only, flags.except_, hcl=hcl)
    return Prepared(found, chosen, names, sensitive, hcl)
