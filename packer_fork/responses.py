"""What is answered when somebody asks about a state; ``--json`` prints these as they are.

Their fields are a contract. Times are in UTC, sizes bytes.
"""

from __future__ import annotations

from datetime import datetime

from msgspec import Struct

from packer_fork.model import Actor, Build, Change, Run, State


class ChangeEntry(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A change, by what it is told by."""

    serial: int
    at: datetime
    by: Actor
    operation: str
    token: int
    run: int | None = None
    builds: tuple[str, ...] = ()
    why: str = ""

    @classmethod
    def of(cls, change: Change) -> ChangeEntry:
        return cls(
            serial=change.serial,
            at=change.at,
            by=change.by,
            operation=change.operation,
            token=change.token,
            run=change.run,
            builds=change.skip.builds if change.skip else tuple(change.builds),
            why=change.why,
        )


class RunEntry(Struct, frozen=True, kw_only=True):
    """A run, and its builds as it left them."""

    run: Run
    builds: tuple[Build, ...]


class BuildDifference(Struct, frozen=True, kw_only=True):
    """One build; ``kind`` is ``added``, ``removed`` or ``changed``, ``what`` says in what."""

    name: str
    kind: str
    what: tuple[str, ...]


class Difference(Struct, frozen=True, kw_only=True):
    """From the state of serial ``before`` to that of ``after``."""

    before: int
    after: int
    builds: tuple[BuildDifference, ...]


class Backup(Struct, frozen=True, kw_only=True):
    """A copy of the state that the store keeps; ``size`` in bytes, ``reason`` in a word."""

    path: str
    serial: int
    reason: str
    at: datetime
    size: int


class Done(Struct, frozen=True, kw_only=True):
    """What a command did to a state.

    ``serial`` is the state's by now, ``backup`` where that is which was replaced,
    ``difference`` what that changed; both None where there is no such.
    """

    operation: str
    template: str
    workspace: str
    serial: int
    backup: Backup | None = None
    difference: Difference | None = None


class Problem(Struct, frozen=True, kw_only=True):
    """Damage: in which file, at which byte, what is wrong, and what it costs."""

    file: str
    offset: int
    what: str
    affected: str


class Verified(Struct, frozen=True, kw_only=True):
    """What was read, in full, and what is wrong with it.

    ``serial`` is None where no state can be read, ``oldest`` the serial that the history
    reaches back to, ``unused`` are files that nothing names.
    """

    location: str
    bytes: int
    serial: int | None
    oldest: int | None
    changes: int
    segments: int
    backups: int
    unused: tuple[str, ...]
    problems: tuple[Problem, ...]


class RecoverableState(Struct, frozen=True, kw_only=True):
    """What can be proven of a damaged state, and what is lost.

    ``state`` is the newest that follows from proven lines, None if none does; its ``gaps``
    lead the history around what is damaged. ``sources`` are the files that it rests on,
    ``acknowledged`` is the last serial that was acknowledged, None where that is unknown,
    and ``lost`` says in sentences what will be missing.
    """

    state: State | None
    sources: tuple[str, ...]
    acknowledged: int | None
    lost: tuple[str, ...]
    problems: tuple[Problem, ...]


class Input(Struct, frozen=True, kw_only=True):
    """Something that counts for a build.

    ``how`` it is known: ``named`` in the template, ``evaluated`` by Packer, ``observed`` in
    ``run``, ``declared`` by a setting, or ``always`` an input. ``at`` is "FILE:LINE" in the
    template, relative to the project, or "" if no place is known.
    """

    kind: str
    name: str
    how: str
    at: str = ""
    run: int | None = None


class InputsOfBuild(Struct, frozen=True, kw_only=True):
    """One build. ``run`` is its newest complete one, ``observation`` how well it was observed."""

    name: str
    inputs: tuple[Input, ...]
    run: int | None = None
    observation: str = ""


class Untracked(Struct, frozen=True, kw_only=True):
    """Something that bears on ``builds`` and has no digest.

    ``effect``: ``built`` each time, ``unnoticed`` when it changes, or ``trusted`` by the user.
    ``setting`` would track it, "" if none does.
    """

    name: str
    at: str
    builds: tuple[str, ...]
    effect: str
    setting: str


class InputsReport(Struct, frozen=True, kw_only=True):
    """What counts. ``common``: inputs of all builds, which ``builds`` do not repeat."""

    template: str
    workspace: str
    common: tuple[Input, ...]
    builds: tuple[InputsOfBuild, ...]
    untracked: tuple[Untracked, ...]


class Prunable(Struct, frozen=True, kw_only=True):
    """History that goes: segments, the runs that begin in them, and the logs of these.

    ``cut`` is the newest segment that goes, "" if none does; ``last`` its last serial;
    ``kept_from`` the lowest run that stays.
    """

    cut: str = ""
    last: int = 0
    segments: int = 0
    runs: int = 0
    kept_from: int = 0
