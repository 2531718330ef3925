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
    program: Program
    outlines: tuple[BuildOutline, ...]
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
    return Prepared(found, _chosen(inspected, template, flags), sensitive, hcl)


def _chosen(inspected: str, template: Template, flags: PackerFlags) -> tuple[BuildOutline, ...]:
    """The builds that Packer will make, as far as it tells beforehand."""
    return outline.chosen(
        outline.outline(inspected, template.path),
        flags.only,
        flags.except_,
        hcl=outline.is_hcl(template.path),
    )
