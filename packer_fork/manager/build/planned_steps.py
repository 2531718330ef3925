"""The steps that each build will run: Packer's own list joined with what the template says.

``packer inspect`` expands ``dynamic`` blocks and lists every step of a build block, in chains; the
template tells which builds a step is for, and its scripts. ``-except`` also names
post-processors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from msgspec import structs

from packer_fork.model import Build, Lines, Step
from packer_fork.packer import steps
from packer_fork.packer.outcome import Outcome
from packer_fork.packer.selection import select
from packer_fork.template.planned import PlannedBuild, PlannedStep

_MOST = 1 << 20
"""Bytes of a script that are read."""


def with_planned_steps(
    start: Outcome,
    planned: Callable[[str], PlannedBuild | None],
    except_: Sequence[str],
    *,
    hcl: bool,
) -> Outcome:
    """`start`, a run that begins, each build with the steps that `planned` gives by its name.

    A step that may be left out is not certain. `except_`: the values of ``-except``. Scripts are
    read where they are files: one that prints what Packer prints makes its step unknown.
    """

    def is_left_out(step: Step) -> bool:
        return not select([step.name or step.type], (), except_, hcl=hcl)

    builds = {
        name: _with_steps(build, planned(name), is_left_out) for name, build in start.builds.items()
    }
    return Outcome(start.item, builds)


def _with_steps(
    build: Build, planned: PlannedBuild | None, is_left_out: Callable[[Step], bool]
) -> Build:
    of_template = planned or PlannedBuild()
    posts = _joined(build.post_processors, of_template.post_processors)
    return structs.replace(
        build,
        provisioners=tuple(_joined(build.provisioners, of_template.provisioners)),
        post_processors=tuple(_without_excepted(posts, is_left_out)),
        makes_no_artifact=of_template.makes_no_artifact,
        places=tuple(
            Lines(file=file, first=first, last=last) for file, first, last in of_template.places
        ),
    )


def _joined(listed: Sequence[Step], planned: Sequence[PlannedStep]) -> Iterator[Step]:
    """Packer lists all steps of a build block, of an older JSON template those of the build."""
    types = [step.type for step in listed]
    chosen = [each for each in planned if each.runs is not False]
    for found in (planned, chosen):
        if [each.type for each in found] == types:
            for step, each in zip(listed, found, strict=True):
                if each.runs is not False:
                    yield structs.replace(
                        step,
                        is_certain=each.runs is True,
                        scripts=each.scripts,
                        at=each.at,
                        sounds_like_packer=_sounds_like_packer(each),
                    )
            return
    yield from (structs.replace(step, is_certain=False) for step in listed)


def _sounds_like_packer(planned: PlannedStep) -> bool:
    texts = (planned.text, *map(_text_of, planned.scripts or ()))
    return any(map(steps.sound_like_packer, texts))


def _text_of(script: str) -> str:
    """The beginning of a script, empty if it cannot be read; Packer will say so."""
    try:
        if not Path(script).is_file():  # reading a pipe would empty it
            return ""
        with Path(script).open("rb") as stream:
            return stream.read(_MOST).decode("utf-8", "replace")
    except (OSError, ValueError):
        return ""


def _without_excepted(posts: Iterator[Step], is_left_out: Callable[[Step], bool]) -> Iterator[Step]:
    """Without those that ``-except`` names, and without what follows them in their chains."""
    is_cut = False
    for step in posts:
        is_cut = is_left_out(step) or (is_cut and step.is_chained)
        if not is_cut:
            yield step
