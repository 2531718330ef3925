"""Builds that read artifacts of others: these are built first, and in an earlier Packer.

A build reads an artifact that the template names for it, or that its newest complete run was
seen to read. Whenever one is built, so is the other: its input will be another one.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Mapping, Sequence

from msgspec import structs

from packer_fork.codec.builds import decode_build
from packer_fork.events import Action, BuildPlan
from packer_fork.inputs.declared import Declared
from packer_fork.inputs.observation import Project
from packer_fork.manager.build import observed, results
from packer_fork.model import State

Reads = Mapping[str, Mapping[str, str]]
"""By build, the path of an artifact that it reads, by the build that makes it."""


def reads(
    names: Sequence[str], declared: Declared, state: State | None, project: Project | None
) -> Reads:
    """Of the builds `names`. `project` is None where what runs were seen to read does not count."""
    found: dict[str, dict[str, str]] = {name: {} for name in names}
    if len(found) < 2:
        return found

    @functools.cache  # builds of one Packer may share what was seen
    def seen(observation: str) -> tuple[str, ...]:
        return tuple(filter(declared.is_output, _paths(observation, state, project)))

    for name in names:
        paths = (*sorted(declared.artifacts.get(name, ())), *seen(_newest(name, state)))
        for path in (each for each in paths if not declared.makes(name, each)):
            makers = (other for other in names if other != name and declared.makes(other, path))
            found[name] |= dict.fromkeys(makers, path)
    return found


def _newest(name: str, state: State | None) -> str:
    """What names the observation of the newest complete run; empty if there is none."""
    if state is None or name not in state.builds:
        return ""
    complete = results.complete(decode_build(state.builds[name]))
    return complete[-1].observed if complete else ""


def _paths(observation: str, state: State | None, project: Project | None) -> Iterator[str]:
    """What a run read."""
    found = observed.stored(state, observation)
    if project is not None and found is not None:
        yield from map(project.path, found.reads)


def ordered(builds: Sequence[BuildPlan], reads: Reads, root: str) -> tuple[BuildPlan, ...]:
    """Each with those whose artifacts it reads; it is built if one of these is.

    `root`: of the project, which names are relative to.
    """
    found = tuple(structs.replace(each, after=tuple(reads.get(each.name, ()))) for each in builds)
    while True:
        built = frozenset(each.name for each in found if each.action is Action.BUILD)
        more = tuple(_built_after(each, built, reads, root) for each in found)
        if more == found:
            return found
        found = more


def _built_after(build: BuildPlan, built: frozenset[str], reads: Reads, root: str) -> BuildPlan:
    first = [name for name in build.after if name in built]
    if build.action is Action.BUILD or not first:
        return build
    return BuildPlan(
        name=build.name,
        action=Action.BUILD,
        reasons=tuple(
            f"reads the artifact of {name} ({os.path.relpath(reads[build.name][name], root)}), "
            "which is built first"
            for name in first
        ),
        after=build.after,
    )


def stages(builds: Sequence[BuildPlan], names: Sequence[str]) -> list[tuple[str, ...]]:
    """`names` in groups that are built one after the other; what reads in a circle is in one."""
    after = {build.name: frozenset(build.after).intersection(names) for build in builds}
    above = {name: _above(name, after) for name in names}
    left, found = list(names), list[tuple[str, ...]]()
    while left:
        waits = {name: above[name].intersection(left) for name in left}
        found.append(tuple(n for n in left if all(n in above[other] for other in waits[n])))
        left = [name for name in left if name not in found[-1]]
    return found


def _above(name: str, after: Mapping[str, frozenset[str]]) -> frozenset[str]:
    """What `name` comes after, directly or not; itself only in a circle."""
    found, asked = frozenset[str](), after[name]
    while asked:
        found |= asked
        asked = frozenset[str]().union(*(after[each] for each in asked)) - found
    return found
