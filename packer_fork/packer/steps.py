r"""Which provisioner or post-processor of a build is at work, from what Packer says of it.

Packer announces post-processors one by one. Most types of provisioners announce each script
or file in words of their own, the others say nothing. From Packer 1.13 on scripts print in
Packer's own tone, so that such words may be a script's. Therefore only the words of a step
that may come next, by the template, move a build on. Where the template and the words leave
several steps, or a script that runs holds such words itself, all of these are unknown.

A position is the index of a provisioner and the number of scripts that it announced. Every
position that the words so far allow is kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from functools import lru_cache

from msgspec import Struct, structs

from packer_fork.model import Build, BuildStatus, KnownBy, Step, StepStatus

Steps = tuple[Step, ...]
Position = tuple[int, int]

_BEFORE_ALL: Position = (-1, 0)


class _Beginning(Struct, frozen=True):
    """Words that provisioners of these types begin with, `repeated` for every file or script."""

    words: re.Pattern[str]
    types: tuple[str, ...]
    repeated: bool


def _begins(words: str, *types: str, repeated: bool = False) -> _Beginning:
    return _Beginning(re.compile(words), types, repeated)


_BEGINNINGS = (
    _begins("Provisioning with shell script: (?P<script>.*)", "shell", repeated=True),
    _begins("Running local shell script: (?P<script>.*)", "shell-local", repeated=True),
    _begins("(?:Up|Down)loading (?P<script>.*) => ", "file", repeated=True),
    _begins("Provisioning with powershell script: (?P<script>.*)", "powershell", repeated=True),
    _begins(r"Provisioning with windows-shell\.\.\.", "windows-shell"),
    _begins("Breakpoint provisioner disabled|Pausing at breakpoint provisioner", "breakpoint"),
    _begins("Restarting Machine", "windows-restart"),
    _begins(r"Provisioning with Ansible\.\.\.", "ansible", "ansible-local"),
    _begins(r"Provisioning with Puppet\.\.\.", "puppet-masterless", "puppet-server"),
    _begins(r"Provisioning with Salt\.\.\.", "salt-masterless"),
    _begins("Provisioning with chef-(?:client|solo)", "chef-client", "chef-solo"),
    _begins(r"Provisioning with Inspec\.\.\.", "inspec"),
    _begins("Provisioning with Converge", "converge"),
)
_ANNOUNCED = {kind for beginning in _BEGINNINGS for kind in beginning.types}
"""Types that never begin without a word."""

_ANNOUNCED_EACH = {kind for each in _BEGINNINGS if each.repeated for kind in each.types}
"""Types that begin every script or file with a word."""

_TEMPORARY = {
    "shell": re.compile(r".*packer-shell\d*[^/\\]*"),
    "shell-local": re.compile(r".*packer-shell\d*[^/\\]*"),
    "powershell": re.compile(r".*powershell-provisioner[^/\\]*"),
}
"""Names of the temporary scripts that Packer writes for ``inline``, 1.6 to 1.16."""

_FAILED = "Provisioning step had errors: "
_ABORTED = 'Step "StepProvision" failed, aborting...'
"""What Packer says of a provisioner that failed, the second with ``-on-error=abort``."""

_RETRY = re.compile(r"Provisioner failed with .*, retrying with \d+ trie\(s\) left", re.DOTALL)
_POST_PROCESSOR = "Running post-processor: "
_WORDS = re.compile(
    "|".join(each.words.pattern.replace("(?P<script>.*)", ".*") for each in _BEGINNINGS)
    + f"|{re.escape(_FAILED)}|{_RETRY.pattern}"
)
"""Of a post-processor the end of the build tells whether it was one: its words do no harm."""

_OF_POST_PROCESSOR = re.compile(
    r"(?:\d+ error\(s\) occurred:\s*)?(?:\* )?"
    r"(?:Post-processor failed|Failed cleaning up prior artifact"
    r"|Error destroying builder artifact): "
)
_POST_PROCESSOR_FAILED = re.compile(r"^(?:\* )?Post-processor failed: ", re.MULTILINE)


@lru_cache(maxsize=16)
def scripts_sound_like_packer(version: str) -> bool:
    """Whether this version of Packer prints what a script says in its own tone, as since 1.13."""
    found = re.match(r"(\d+)\.(\d+)\.", version)
    return found is not None and (int(found[1]), int(found[2])) >= (1, 13)


def sound_like_packer(script: str) -> bool:
    """Whether the text of a script holds words by which Packer tells of provisioners."""
    return _WORDS.search(script) is not None


def heard(build: Build, text: str, at: datetime, *, by_script: bool) -> Build:
    """`build` after Packer has said `text` of it in its own tone; the same if it means nothing.

    `by_script`: in this Packer's output a script may have printed `text` as well.
    """
    if text.startswith(_POST_PROCESSOR):
        return _post_processor(build, text.removeprefix(_POST_PROCESSOR), at, by_script=by_script)
    may_imitate = by_script and _may_imitate(build)
    if text.startswith(_FAILED):
        return build if may_imitate else _provisioning_failed(build, at, by_script=by_script)
    if build.evidence.provisioning_failed:
        return build  # what runs now is there to clean up
    if _RETRY.match(text):
        return build if may_imitate else _retried(build, text)
    return _provisioner(build, text, at, by_script=by_script)


def is_abort(text: str) -> bool:
    """Whether `text`, an error that a build says, tells that a provisioner made it abort."""
    return text == _ABORTED


def provisioning_failed(build: Build, at: datetime) -> Build:
    """`build` after Packer has said that one of its provisioners failed."""
    if build.evidence.provisioning_failed:
        return build
    blamed = _at_work(build)
    became = StepStatus.FAILED if len(blamed) == 1 else StepStatus.UNKNOWN
    steps = tuple(
        _ended(step, became, at) if number in blamed else step
        for number, step in enumerate(build.provisioners)
    )
    evidence = structs.replace(build.evidence, provisioning_failed=True)
    after = structs.replace(_before_post_processing(build), evidence=evidence)
    return structs.replace(after, status=BuildStatus.PROVISIONING, provisioners=steps)


def _provisioning_failed(build: Build, at: datetime, *, by_script: bool) -> Build:
    """The same, where a script may have said so: in its own words, or in those of its output."""
    if not by_script:
        return provisioning_failed(build, at)
    if build.evidence.provisioning_failed:  # Packer says it once
        return _unclear_since(build, _first(build.provisioners, StepStatus.FAILED))
    after = provisioning_failed(build, at)
    blamed = _first(after.provisioners, StepStatus.FAILED)
    steps = tuple(
        structs.replace(step, known_by=KnownBy.INFERRED)
        if number == blamed and number + 1 < len(after.provisioners)
        else step
        for number, step in enumerate(after.provisioners)
    )
    return structs.replace(after, provisioners=steps)


def _first(steps: Steps, status: StepStatus) -> int | None:
    return next((number for number, step in enumerate(steps) if step.status is status), None)


def _unclear_since(build: Build, first: int | None) -> Build:
    """`build` with its provisioners from `first` on unknown."""
    if first is None:
        return build
    steps = tuple(
        structs.replace(step, status=StepStatus.UNKNOWN) if number >= first else step
        for number, step in enumerate(build.provisioners)
    )
    return structs.replace(build, provisioners=steps)


def run_through(build: Build, at: datetime) -> Build:
    """No step left open in a build that has come to its end without an error."""
    # Then the failure that a script printed was none, and what followed it was not followed.
    missed = StepStatus.UNKNOWN if build.evidence.provisioning_failed else StepStatus.SKIPPED
    return structs.replace(
        build,
        provisioners=tuple(_passed(step, at) for step in build.provisioners),
        post_processors=tuple(
            _ended(step, StepStatus.COMPLETE, at)
            if step.status is StepStatus.RUNNING
            else _never_begun(step, missed)
            for step in build.post_processors
        ),
    )


def cut_short(build: Build, at: datetime) -> Build:
    """No step left open in a build that has ended in the middle, or has never begun."""
    never = build.status is BuildStatus.PENDING or build.evidence.provisioning_failed
    return structs.replace(
        build,
        provisioners=tuple(_cut(step, at, ran_never=never) for step in build.provisioners),
        post_processors=tuple(_cut(step, at, ran_never=True) for step in build.post_processors),
    )


def failed(build: Build, at: datetime, error: str) -> Build:
    """No step left open in a build that has failed, with `error` at the step that it is from.

    Only the errors of post-processors begin as such: any other proves that what looked like a
    post-processor was printed by a script.
    """
    if _OF_POST_PROCESSOR.match(error):
        return _post_processing_failed(build, at, error)
    after = cut_short(_before_post_processing(build), at)
    return structs.replace(
        after, provisioners=tuple(_with_error(step, error) for step in after.provisioners)
    )


def _post_processing_failed(build: Build, at: datetime, error: str) -> Build:
    """The last post-processor of each chain may be the one; each that fails has its own error."""
    steps = build.post_processors
    begun = [number for number, step in enumerate(steps) if step.started]
    last = [
        number for number in begun if not (number + 1 in begun and steps[number + 1].is_chained)
    ]
    is_clear = len(last) == max(1, len(_POST_PROCESSOR_FAILED.findall(error)))
    became = StepStatus.FAILED if is_clear else StepStatus.UNKNOWN
    told = tuple(
        _with_error(_ended(step, became, step.ended or at), error) if number in last else step
        for number, step in enumerate(steps)
    )
    provisioners = tuple(_passed(step, at) for step in build.provisioners)
    return cut_short(structs.replace(build, provisioners=provisioners, post_processors=told), at)


def _post_processor(build: Build, announced: str, at: datetime, *, by_script: bool) -> Build:
    """`build` after Packer has announced a post-processor, unless only a script can have."""
    evidence = build.evidence
    could_print = by_script and bool(evidence.positions)
    if could_print and (evidence.provisioning_failed or not _may_be_over(build)):
        return build
    steps = build.post_processors
    number = next(
        (
            number
            for number in _next_post_processors(steps)
            if announced in _announcements(steps[number])
        ),
        None,
    )
    if number is None and steps:
        return build
    over = tuple(_passed(step, at) for step in build.provisioners)
    if build.status is BuildStatus.POST_PROCESSING:
        over = build.provisioners
    after = structs.replace(build, status=BuildStatus.POST_PROCESSING, provisioners=over)
    if number is None:
        return after
    known_by = KnownBy.INFERRED if could_print else KnownBy.OBSERVED
    begun = structs.replace(steps[number], status=StepStatus.RUNNING, started=at, known_by=known_by)
    before = (
        _ended(step, StepStatus.COMPLETE, at)
        if step.status is StepStatus.RUNNING
        else _never_begun(step, StepStatus.SKIPPED)
        for step in steps[:number]
    )
    return structs.replace(after, post_processors=(*before, begun, *steps[number + 1 :]))


def _announcements(step: Step) -> tuple[str, str]:
    """Up to 1.6.6 an unnamed one of HCL2 is announced with an empty name."""
    return step.type, f"{step.name} (type {step.type})"


def _next_post_processors(steps: Steps) -> Iterator[int]:
    """Those that may be announced next: of each chain the first is, whatever the others did."""
    begun = [number for number, step in enumerate(steps) if step.started]
    current = begun[-1] if begun else -1
    is_reached = True
    for number, step in enumerate(steps[current + 1 :], current + 1):
        if step.is_chained and not is_reached:
            continue
        yield number
        if step.is_certain and not step.is_chained:
            return
        is_reached = is_reached and not step.is_certain


def _before_post_processing(build: Build) -> Build:
    """`build` as if no post-processor had been announced."""
    if build.status is not BuildStatus.POST_PROCESSING:
        return build
    undone = (
        structs.replace(step, status=StepStatus.PENDING, started=None, ended=None)
        for step in build.post_processors
    )
    reset = structs.replace(build, status=BuildStatus.PROVISIONING, post_processors=tuple(undone))
    return _placed(reset, reset.evidence.positions, build.started, KnownBy.INFERRED)


def _retried(build: Build, text: str) -> Build:
    """A provisioner that failed begins again with its first script."""
    build = _before_post_processing(build)
    blamed = _at_work(build)
    steps = tuple(
        structs.replace(step, error=text) if number in blamed else step
        for number, step in enumerate(build.provisioners)
    )
    positions = tuple((number, 0) for number in sorted(blamed))
    evidence = structs.replace(build.evidence, positions=positions or build.evidence.positions)
    return structs.replace(build, provisioners=steps, evidence=evidence)


def _provisioner(build: Build, text: str, at: datetime, *, by_script: bool) -> Build:
    beginning = next((each for each in _BEGINNINGS if each.words.match(text)), None)
    if beginning is None:
        return build
    found = beginning.words.match(text)
    script = found["script"] if found and beginning.repeated else ""
    steps, before = build.provisioners, build.evidence.positions
    moved = _moved(steps, before, beginning, script)
    if moved and by_script:
        moved |= {each for each in before if steps[each[0]].sounds_like_packer}
    if not moved and not by_script:  # Packer said so: the scripts are not those of the template
        moved = _moved(tuple(map(_of_any_script, steps)), before, beginning, script)
    if not moved:
        is_known = before or steps
        return build if is_known else structs.replace(build, status=BuildStatus.PROVISIONING)
    known_by = KnownBy.INFERRED if by_script and before else KnownBy.OBSERVED
    begun = _before_post_processing(build)
    return _placed(begun, tuple(sorted(moved)), at, known_by)


def _may_imitate(build: Build) -> bool:
    """Whether a script that may be running holds Packer's own words."""
    positions = build.evidence.positions
    return any(build.provisioners[number].sounds_like_packer for number, _ in positions)


def _moved(
    steps: Steps, before: tuple[Position, ...], beginning: _Beginning, script: str
) -> set[Position]:
    return {
        after
        for position in before or (_BEFORE_ALL,)
        for after in _following(steps, position, beginning, script)
    }


def _of_any_script(step: Step) -> Step:
    return structs.replace(step, scripts=None)


def _following(
    steps: Steps, position: Position, beginning: _Beginning, script: str
) -> Iterator[Position]:
    """Where a build may stand that was at `position` when `script` was announced."""
    number, announced = position
    if number >= 0 and _announces(steps[number], beginning, script, announced):
        yield number, announced + 1
    if number >= 0 and not _is_over(steps[number], announced):
        return
    for later, step in enumerate(steps[number + 1 :], number + 1):
        if _announces(step, beginning, script, 0):
            yield later, 1
        if _must_announce(step):
            return


def _announces(step: Step, beginning: _Beginning, script: str, announced: int) -> bool:
    """Whether `step` may say this after it has announced so many scripts."""
    if step.type not in beginning.types:
        return False
    if not beginning.repeated:
        return announced == 0
    if step.scripts is None:
        return True
    if announced >= len(step.scripts):
        return False
    expected, temporary = step.scripts[announced], _TEMPORARY.get(step.type)
    if expected:
        return script == expected
    return temporary is None or temporary.fullmatch(script) is not None


def _is_over(step: Step, announced: int) -> bool:
    """Whether `step`, which announced so many scripts, may have come to its end."""
    if step.type not in _ANNOUNCED:
        return True
    expected = len(step.scripts or ("",)) if step.type in _ANNOUNCED_EACH else 1
    return announced >= expected


def _must_announce(step: Step) -> bool:
    return step.is_certain and step.type in _ANNOUNCED


def _may_be_over(build: Build) -> bool:
    """Whether all provisioners may have run."""
    steps = build.provisioners
    return any(
        (number < 0 or _is_over(steps[number], announced))
        and not any(_must_announce(step) for step in steps[number + 1 :])
        for number, announced in build.evidence.positions or (_BEFORE_ALL,)
    )


def _at_work(build: Build) -> set[int]:
    """Every provisioner that may be running: where the build stands, and silent ones behind."""
    found: set[int] = set()
    steps = build.provisioners
    for number, announced in build.evidence.positions or (_BEFORE_ALL,):
        found |= {number} - {-1}
        if number >= 0 and not _is_over(steps[number], announced):
            continue
        for later, step in enumerate(steps[number + 1 :], number + 1):
            if _must_announce(step):
                break
            if step.type not in _ANNOUNCED:
                found.add(later)
    return found


def _placed(
    build: Build, positions: tuple[Position, ...], at: datetime | None, known_by: KnownBy
) -> Build:
    """`build` with its provisioners at one of `positions` since `at`."""
    if not positions:
        return build
    numbers = {number for number, _ in positions}
    first, last = min(numbers), max(numbers)
    steps: list[Step] = []
    for number, step in enumerate(build.provisioners):
        if number < first:
            steps.append(_passed(step, at))
        elif number not in numbers:
            steps.append(step if number < last else _not_begun(step))
        elif first < last:
            steps.append(structs.replace(step, status=StepStatus.UNKNOWN, error=""))
        else:
            steps.append(_running(step, at, known_by))
    evidence = structs.replace(build.evidence, positions=positions)
    return structs.replace(
        build,
        status=BuildStatus.PROVISIONING,
        provisioners=tuple(steps),
        evidence=evidence,
    )


def _running(step: Step, at: datetime | None, known_by: KnownBy) -> Step:
    if step.status is StepStatus.RUNNING:
        return structs.replace(step, error="")
    was_unclear = step.status is StepStatus.UNKNOWN
    return structs.replace(
        step,
        status=StepStatus.RUNNING,
        started=step.started or at,
        ended=None,
        error="",
        known_by=KnownBy.INFERRED if was_unclear else step.known_by if step.started else known_by,
    )


def _not_begun(step: Step) -> Step:
    return structs.replace(step, status=StepStatus.PENDING, started=None, ended=None)


def _passed(step: Step, at: datetime | None) -> Step:
    """A provisioner of a build that is beyond it: it ran if the template says so."""
    match step.status:
        case StepStatus.RUNNING:
            return structs.replace(step, status=StepStatus.COMPLETE, ended=at, error="")
        case StepStatus.FAILED | StepStatus.UNKNOWN if step.is_certain:
            return structs.replace(step, status=StepStatus.COMPLETE, error="")
        case StepStatus.PENDING if step.type in _ANNOUNCED:
            return structs.replace(step, status=StepStatus.SKIPPED)
        case StepStatus.PENDING:
            became = StepStatus.COMPLETE if step.is_certain else StepStatus.UNKNOWN
            return structs.replace(step, status=became)
    return step


def _cut(step: Step, at: datetime, *, ran_never: bool) -> Step:
    """A step of a build that ended in the middle; `ran_never`: one that is pending never began."""
    if step.status is StepStatus.RUNNING:
        return _ended(step, StepStatus.UNKNOWN, at)
    is_sure = ran_never or step.type in _ANNOUNCED
    return _never_begun(step, StepStatus.SKIPPED if is_sure else StepStatus.UNKNOWN)


def _never_begun(step: Step, status: StepStatus) -> Step:
    return structs.replace(step, status=status) if step.status is StepStatus.PENDING else step


def _ended(step: Step, status: StepStatus, at: datetime) -> Step:
    return structs.replace(step, status=status, ended=at, error="")


def _with_error(step: Step, error: str) -> Step:
    return structs.replace(step, error=error) if step.status is StepStatus.FAILED else step
