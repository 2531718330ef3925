"""What has to be known before Packer is started: the program, the builds, the secrets."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

from packer_fork import durable
from packer_fork.config import Settings
from packer_fork.manager.locate import Template
from packer_fork.packer import literals, outline, program
from packer_fork.packer.flags import PackerFlags
from packer_fork.packer.outline import BuildOutline
from packer_fork.packer.program import Program
from packer_fork.packer.sensitive import Sensitive, collect

_MAX_TEMPLATE = 16 << 20


class Prepared(Struct, frozen=True):
    program: Program
    outlines: tuple[BuildOutline, ...]
    sensitive: Sensitive


def prepare(
    template: Template, flags: PackerFlags, settings: Settings, environ: Mapping[str, str]
) -> Prepared:
    """Raises PackerError or TemplateError where a build could not even begin."""
    found = program.find(settings.packer)
    inspected = program.inspect(found, flags, template.given, environ)
    sensitive = collect(found, template.given, flags, environ)
    return Prepared(found, _selected(inspected, template, flags), sensitive)


def _selected(inspected: str, template: Template, flags: PackerFlags) -> tuple[BuildOutline, ...]:
    """The builds that Packer will make, as far as it tells beforehand."""
    hcl = template.path.is_dir() or template.path.name.endswith((".pkr.hcl", ".pkr.json"))
    if hcl:
        outlines = outline.of_hcl(inspected)
    else:
        outlines = outline.of_json(inspected, literals.parse_json(_read(template.path)))
    names = outline.select((o.name for o in outlines), flags.only, flags.except_, hcl=hcl)
    chosen = set(names)
    return tuple(o for o in outlines if o.name in chosen)


def _read(path: Path) -> bytes:
    data = durable.read(path, _MAX_TEMPLATE)
    return data or b""
