"""What a template says, whichever language it is written in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

from msgspec import Struct

from packer_fork.template.value_roles import ValueRole

Evaluate = Callable[[Mapping[str, str]], Mapping[str, object] | None]
"""Names to expressions in the template's own language, HCL or (without the braces) that of
JSON templates. The answer has the JSON values of those that Packer could evaluate, and is
None where it could evaluate nothing at all."""

MAX_SOURCE = 16 << 20
"""Bytes of a file that is read."""

ANYTHING = "\0"
"""Stands in a text for a part whose value is not known before the build runs."""


class At(Struct, frozen=True):
    """A place in a template: ``file`` is a path, "" for the only file of an older JSON template;
    ``line`` counts from 1 and is 0 if not known, as in JSON.
    """

    file: str = ""
    line: int = 0


class Expression(Struct, frozen=True):
    """Source text, on one line, that Packer can evaluate; "" where names in it are unknown.

    ``inner``: what it may come to, each in pieces, as far as its parts tell; taken where Packer
    gives no value. ``name``: what it refers to, if it is but a reference: "local.a", "source.name".
    """

    source: str = ""
    inner: tuple[tuple[Part, ...], ...] = ()
    name: str = ""


Part = str | Expression
Parts = tuple[Part, ...]

UNKNOWN = Expression()
"""A part that has no value yet: an iterator, what a data source answers."""


class Place(Struct, frozen=True):
    """Where a value stands in a template.

    ``block``: one for each block, also a nested one; a source has the same wherever it is
    spoken of. ``kind``: "source" (a builder, too), "provisioner", "data", ...; ``plugin``: the
    type of its plugin, "" if there is none, or it is not known. ``path``: the names of nested
    blocks, the attribute, the keys of objects in it.
    """

    block: str
    kind: str
    plugin: str = ""
    path: tuple[str, ...] = ()

    @property
    def role(self) -> ValueRole:
        # Only a template that is parsed needs the table.
        from packer_fork.template.value_role_table import role_of

        return role_of(self.kind, self.plugin, self.path)


class Mention(Struct, frozen=True):
    """A value in a template that may name files.

    ``parts``: its text in pieces; a single Expression may be of any type. ``opened``: Packer
    itself reads it, as in ``file()``; ``listed``: it is what ``fileset()`` lists. ``at``: the
    file and line.
    """

    place: Place
    parts: Parts
    opened: bool = False
    listed: bool = False
    at: At = At()

    @property
    def attribute(self) -> str:
        """The innermost name of its place."""
        return self.place.path[-1] if self.place.path else ""

    @property
    def role(self) -> ValueRole:
        if self.opened:
            return ValueRole.WILDCARDS if self.listed else ValueRole.LOCAL
        return self.place.role


class Local(Struct, frozen=True):
    """A local value: the names that it rests on ("var.a", "local.b"), the functions it calls."""

    name: str
    references: frozenset[str] = frozenset()
    calls: frozenset[str] = frozenset()


ANY_TYPE = "*"
"""Stands for the plugin of a section that may be of any type."""

StepKind = Literal["provisioner", "post-processor", "error-cleanup-provisioner"]

Names = tuple[str, ...] | None
"""Names as they stand in the template; None where they are not literal."""


class Section(Struct, frozen=True, kw_only=True):
    """``label``: what its author calls it, "source null.web" or "shell" for a step.

    ``type``: of the plugin that it is for, "" if it is for none, `ANY_TYPE` if it is not known;
    ``tokens``: canonical source by attribute path; ``references`` ("var.a", "local.b",
    "data.type.name"; "var" alone where it is not known which) and ``calls``: functions.
    ``at``: where it begins, ``last``: the line where it ends, 0 if not known; ``lines``: of its
    attributes and blocks, by path, as far as known.
    """

    label: str
    type: str = ""
    tokens: Mapping[str, str] = {}
    mentions: tuple[Mention, ...] = ()
    references: frozenset[str] = frozenset()
    calls: frozenset[str] = frozenset()
    at: At = At()
    last: int = 0
    lines: Mapping[str, int] = {}

    def place_of(self, path: str) -> At:
        """Of an attribute, or of the outermost block around it whose place is known."""
        parts = path.split(".")
        above = (".".join(parts[:count]) for count in range(1, len(parts) + 1))
        line = next((self.lines[each] for each in above if each in self.lines), self.at.line)
        return At(self.at.file, line)


class Use(Struct, frozen=True):
    """A source in a build block: ``ref`` is "TYPE.NAME", or the name of a JSON builder.

    ``name`` is the one that the build goes by, None where that is not literal; ``section``
    has what the build block adds to the source.
    """

    ref: str
    name: str | None
    section: Section | None = None


class Step(Struct, frozen=True, kw_only=True):
    """A provisioner or post-processor. ``name``: what its author calls it, "" if not literal;
    ``overrides``: tokens by the name they are for.
    """

    kind: StepKind
    name: str = ""
    only: Names = ()
    excepted: Names = ()
    overrides: Mapping[str, str] = {}
    section: Section

    @property
    def is_chained(self) -> bool:
        """Whether it is a post-processor that takes what the one before it made."""
        return "chained" in self.section.tokens

    def runs_for(self, name: str) -> bool:
        """Whether it may run for the build `name`."""
        if self.only and name not in self.only:
            return False
        return self.excepted is None or name not in self.excepted


class BuildBlock(Struct, frozen=True, kw_only=True):
    """``name`` is None where it is not literal; ``uses`` None where sources are not.

    ``renamed``: the sources that the block names itself, also where ``uses`` is None. ``ref`` is
    "" for a ``dynamic`` block that names what it makes.
    """

    name: str | None
    uses: tuple[Use, ...] | None
    renamed: tuple[Use, ...] = ()
    section: Section
    steps: tuple[Step, ...] = ()

    def use_of(self, build: str) -> Use | None:
        """The source that the build of this name is made of, as far as that is literal."""
        prefix = f"{self.name}." if self.name else ""
        known = (use for use in self.uses or () if use.name is not None)
        return next((use for use in known if f"{prefix}{use.name}" == build), None)

    def may_make(self, build: str) -> bool:
        if self.name is None:
            return True
        if self.uses is None or any(use.name is None for use in self.uses):
            return build.startswith(f"{self.name}." if self.name else "")
        return self.use_of(build) is not None


class Sections(Struct, frozen=True, kw_only=True):
    """All sections of a template. ``sources``: by "TYPE.NAME"; ``variables``: those whose
    defaults do more than stand there; ``others`` count for every build.
    """

    sources: Mapping[str, Section] = {}
    builds: tuple[BuildBlock, ...] = ()
    locals: Mapping[str, Section] = {}
    data: Mapping[str, Section] = {}
    variables: Mapping[str, Section] = {}
    others: tuple[Section, ...] = ()
    plugins: Mapping[str, str] = {}
    """By the local name of ``required_plugins``, what is required, as tokens."""


class Literals(Struct, frozen=True):
    """The strings and numbers in an expression that need no evaluation; ``environment``: names
    of the variables of the environment that it takes values from.
    """

    texts: tuple[str, ...] = ()
    environment: tuple[str, ...] = ()

    def values(self, environ: Mapping[str, str]) -> tuple[str, ...]:
        return (*self.texts, *(environ.get(name, "") for name in self.environment))


class Secret(Struct, frozen=True, kw_only=True):
    """A sensitive variable or local. ``expression``: what Packer evaluates to its value, ""
    if there is none; ``literals``: of its default; ``is_assignable``: a variable.
    """

    name: str
    expression: str
    literals: Literals = Literals()
    is_assignable: bool = True


class Contents(Struct, frozen=True, kw_only=True):
    """All of a template, or of one of its files.

    ``variables`` maps a name to the expression of its value; ``definitions`` has, by "local.a"
    or "var.a", what a local or the default of a variable may come to. ``secrets`` are complete
    unless the text ``is_too_complex``; all else also needs it to be parsable.
    """

    secrets: tuple[Secret, ...] = ()
    mentions: tuple[Mention, ...] = ()
    variables: Mapping[str, str] = {}
    definitions: Mapping[str, tuple[Parts, ...]] = {}
    unstable: frozenset[str] = frozenset()
    locals: tuple[Local, ...] = ()
    references: frozenset[str] = frozenset()
    calls: frozenset[str] = frozenset()
    sources: tuple[str, ...] = ()
    sections: Sections = Sections()
    is_parsable: bool = True
    is_too_complex: bool = False
