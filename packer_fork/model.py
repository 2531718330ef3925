"""What packer-fork remembers of one template in one workspace: the documents.

Everything here is a frozen Struct: a state is never edited, a change makes the next
one (``changes``). Times are aware datetimes in UTC, durations seconds, sizes bytes.
Builds stay encoded (``msgspec.Raw``) until somebody asks for one, so that a state of
ten thousand builds is opened in milliseconds.

Annotations are no strings here, as msgspec would have to evaluate them one by one whenever
a command starts.
"""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any

import msgspec
from msgspec import Struct

FORMAT_VERSION = 2
MAX_METADATA_DEPTH = 200
"""Levels of nesting that a build's metadata may have; deeper documents are refused."""


REMOVED = msgspec.Raw(b"null")
"""What a change says of a document that it takes away."""


class BuildStatus(StrEnum):
    PENDING = "pending"
    CREATING = "creating"
    PROVISIONING = "provisioning"
    POST_PROCESSING = "post_processing"
    COMPLETE = "complete"
    FAILED = "failed"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"
    UNVERIFIED = "unverified"
    SKIPPED = "skipped"

    @property
    def is_final(self) -> bool:
        return self not in _UNDER_WAY


_UNDER_WAY = frozenset(
    (
        BuildStatus.PENDING,
        BuildStatus.CREATING,
        BuildStatus.PROVISIONING,
        BuildStatus.POST_PROCESSING,
    )
)


class StepStatus(StrEnum):
    PENDING = "pending"
    RUNNING = "running"
    COMPLETE = "complete"
    FAILED = "failed"
    SKIPPED = "skipped"
    UNKNOWN = "unknown"


class RunStatus(StrEnum):
    RUNNING = "running"
    COMPLETE = "complete"
    FAILED = "failed"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"
    UNVERIFIED = "unverified"


class KnownBy(StrEnum):
    """How a step's status is known: Packer named it, or it follows from the order."""

    OBSERVED = "observed"
    INFERRED = "inferred"


class Document(
    Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    omit_defaults=True,
    gc=False,  # what is decoded from JSON has no cycles
):
    """Base of all that is stored: unknown keys are damage or a newer format, never ignored."""


class Step(Document, frozen=True):
    """One provisioner or post-processor of a build.

    ``is_certain``: the template says that it runs in this build. ``scripts``: the files that it
    runs or uploads in order ("" for a temporary one), None where they are not known.
    ``is_chained``: a post-processor that takes what the one before it made.
    ``sounds_like_packer``: its own text holds words by which Packer tells of provisioners.
    ``manifests``: absolute paths of the files that it tells the build in. ``at``: "FILE:LINE" in
    the template of its run, empty where that is not known.
    """

    type: str
    name: str = ""
    is_certain: bool = True
    scripts: tuple[str, ...] | None = None
    is_chained: bool = False
    sounds_like_packer: bool = False
    manifests: tuple[str, ...] = ()
    at: str = ""
    status: StepStatus = StepStatus.PENDING
    started: datetime | None = None
    ended: datetime | None = None
    error: str = ""
    known_by: KnownBy = KnownBy.INFERRED


class Lines(Document, frozen=True):
    """Lines of a template, counted from 1: the name of its file, the first and the last."""

    file: str
    first: int
    last: int


class File(Document, frozen=True):
    """A file of an artifact: absolute path; size in bytes, digest and mtime once it was hashed.

    ``removed``: it was gone when its run ended, removed by the build that made it.
    ``is_shared``: other builds and runs write it, too, so that it only has to be there.
    """

    path: str
    size: int | None = None
    sha256: str = ""
    mtime_ns: int | None = None
    removed: bool = False
    is_shared: bool = False


class Artifact(Document, frozen=True):
    """``in_manifest``: a manifest of the template tells it or, where the template has none, a
    manifest at the end of a chain of post-processors would.
    """

    builder_id: str = ""
    id: str = ""
    string: str = ""
    files: tuple[File, ...] = ()
    in_manifest: bool = False


class Instance(Document, frozen=True):
    """The machine that a build ran on, as far as Packer's output told."""

    id: str = ""
    provider: str = ""
    region: str = ""
    addresses: tuple[str, ...] = ()
    user: str = ""
    port: int | None = None
    metadata: dict[str, Any] = {}


class Evidence(Document, frozen=True):
    """What Packer's output proved so far of one build (see ``packer.outcome``).

    ``never_started``: Packer ended without having begun the build, which so changed nothing.
    ``artifacts_empty``: artifacts of which Packer listed neither builder, ID, text nor files.
    ``provisioning_failed``: Packer said that a provisioner failed. ``positions``: the places where
    the provisioners may stand, each the index of a step and how many scripts it announced.
    """

    finished: bool = False
    artifact_count: int | None = None
    artifacts_ended: int = 0
    never_started: bool = False
    artifacts_empty: int = 0
    provisioning_failed: bool = False
    positions: tuple[tuple[int, int], ...] = ()


class Actor(Document, frozen=True):
    """Who did something, on which machine, as which process."""

    user: str
    host: str
    pid: int

    def __str__(self) -> str:
        return f"{self.user}@{self.host}"


class Result(Document, frozen=True):
    """A complete build of an earlier run, kept so that its artifacts are not forgotten.

    ``inputs`` and ``observed`` name documents in the state: what was declared, and what the run
    was seen to read ("" where nothing was observed). ``directory``: where the run was started.
    """

    run: int
    started: datetime | None = None
    ended: datetime | None = None
    directory: str = ""
    inputs: str = ""
    observed: str = ""
    artifacts: tuple[Artifact, ...] = ()


class Build(Document, frozen=True):
    """One source of the template, and how its last run went.

    ``leftovers``: instances of earlier runs that may still be there; ``results``: the
    complete runs before this one. ``item`` and ``by`` say which work item of the run built it,
    0 while none did, and who. ``directory``, ``inputs``, ``observed``: see ``Result``.
    ``revoked``: runs whose result is not to be used, and why. ``makes_no_artifact``: the template
    says so.
    ``places``: the blocks of the template that are about this build.
    """

    name: str
    type: str = ""
    status: BuildStatus = BuildStatus.PENDING
    run: int = 0
    directory: str = ""
    inputs: str = ""
    observed: str = ""
    started: datetime | None = None
    ended: datetime | None = None
    provisioners: tuple[Step, ...] = ()
    post_processors: tuple[Step, ...] = ()
    instance: Instance | None = None
    leftovers: tuple[Instance, ...] = ()
    artifacts: tuple[Artifact, ...] = ()
    error: str = ""
    evidence: Evidence = Evidence()
    metadata: dict[str, Any] = {}
    results: tuple[Result, ...] = ()
    item: int = 0
    by: Actor | None = None
    revoked: dict[str, str] = {}
    makes_no_artifact: bool = False
    places: tuple[Lines, ...] = ()


class Git(Document, frozen=True):
    commit: str
    branch: str = ""
    dirty: bool = False


class CiJob(Document, frozen=True):
    """The job of a CI service that a run belongs to."""

    service: str
    job: str = ""
    url: str = ""


class Recovery(Document, frozen=True):
    """Who finished a run from its log after its wrapper had died, and when.

    ``unread``: its log was not there to be read.
    """

    at: datetime
    by: Actor
    reason: str = ""
    unread: bool = False


class Run(Document, frozen=True):
    """One invocation of `packer-fork build` that builds something, numbered from 1.

    Only the process that started it, and the one that concludes it, write this document; what
    its Packers do is in its work items. ``exit_code``: the highest of its Packers', None where
    one was not seen. ``waited`` is how long for the lock, in seconds, with ``ahead`` others
    before it, and ``held`` how long it was held. ``commits`` were made before the last one of the
    run, in ``committing`` seconds altogether.
    """

    number: int
    token: int
    started: datetime
    by: Actor
    status: RunStatus = RunStatus.RUNNING
    ended: datetime | None = None
    directory: str = ""
    command: tuple[str, ...] = ()
    inputs: str = ""
    packer_version: str = ""
    git: Git | None = None
    ci: CiJob | None = None
    builds: tuple[str, ...] = ()
    up_to_date: tuple[str, ...] = ()
    exit_code: int | None = None
    error: str = ""
    waited: float = 0.0
    ahead: int = 0
    held: float = 0.0
    commits: int = 0
    committing: float = 0.0
    recovered: Recovery | None = None


class WorkItem(Document, frozen=True):
    """The sources of run ``run`` that one Packer process builds: all of them, or some.

    Only the participant that claimed it writes it, or a recovery. ``number`` counts the items of
    the run from 1; a retry is a new item, whose ``attempt`` is one more. ``sources`` names the
    builds. ``packer``: the process ID, and so the session, of Packer. ``log_offset`` is how many
    bytes of the raw log the documents of the builds rest on. ``cancelled`` and ``closed``: Packer
    said that it cancels, or that its builds have finished.
    """

    run: int
    number: int
    token: int
    started: datetime
    by: Actor
    sources: tuple[str, ...] = ()
    attempt: int = 1
    status: RunStatus = RunStatus.RUNNING
    ended: datetime | None = None
    directory: str = ""
    packer_version: str = ""
    packer: int | None = None
    log: str = ""
    log_offset: int = 0
    cancelled: bool = False
    closed: bool = False
    exit_code: int | None = None
    error: str = ""
    recovered: Recovery | None = None

    @property
    def key(self) -> str:
        """What names it in the state and in ``logs/``: item 3 of run 12 is ``12-3``."""
        return f"{self.run}-{self.number}"


class Late(Document, frozen=True):
    """What an item came to whose results did not get into the state in time.

    ``run`` is the run as it was then known. ``inputs`` has the documents that its builds name in
    ``observed``. It replaces nothing newer.
    """

    lineage: str
    run: Run
    item: WorkItem
    builds: dict[str, Build]
    inputs: dict[str, msgspec.Raw] = {}


class Skip(Document, frozen=True):
    """What a build left out that had nothing to do: all of ``builds``, up to date with ``inputs``.

    It is no run; ``after`` is the last one before it. ``waited`` and ``held``, in seconds, are
    of its lock.
    """

    after: int
    inputs: str
    builds: tuple[str, ...]
    ci: CiJob | None = None
    waited: float = 0.0
    held: float = 0.0


class Project(Document, frozen=True):
    """The marks of a project, to tell it from others in one store; "" is unknown.

    ``origin``: host and path of its git remote, with the project's folder in the repository.
    ``name``: the setting ``project``. ``root``: its real path, in a folder of states only.
    """

    origin: str = ""
    name: str = ""
    root: str = ""

    def differing_mark(self, other: "Project") -> tuple[str, str] | None:
        """The mark that shows two different projects, of both; unknown marks show nothing."""
        marks = (self.origin, other.origin), (self.name, other.name), (self.root, other.root)
        known = next((pair for pair in marks if all(pair)), ("", ""))
        return known if known[0] != known[1] else None


class Template(Document, frozen=True):
    """The template's identity: its path relative to the project's root, ``/`` between parts.

    ``projects``: those that may use its state; empty where the state is beside the template.
    """

    path: str
    projects: tuple[Project, ...] = ()


class SegmentRef(Document, frozen=True):
    """A sealed segment of the history: its name (SHA-256) and the last serial in it.

    ``segments`` counts it and those before it; ``summary`` is the digest of its summary
    ("" for segments of format 1, which have none).
    """

    segment: str
    serial: int
    segments: int
    summary: str = ""


class Summary(Document, frozen=True):
    """What is in a segment, so that whoever looks for something may pass it by.

    ``first`` is the serial of its snapshot, ``last`` that of its last change; ``size``
    the bytes of its lines; ``before`` the segment before it. ``runs`` counts the runs that
    start in it, ``numbers`` are the lowest and the highest of them, ``earliest`` and
    ``latest`` when; ``spans`` says that it also tells of a run that started before.
    ``builds`` is None where there are too many.
    """

    version: int
    first: int
    last: int
    size: int
    before: SegmentRef | None = None
    runs: int = 0
    numbers: tuple[int, int] | None = None
    spans: bool = False
    earliest: datetime | None = None
    latest: datetime | None = None
    statuses: tuple[str, ...] = ()
    builds: tuple[str, ...] | None = ()
    branches: tuple[str, ...] = ()


class State(Document, frozen=True):
    """A snapshot. ``prev`` is the digest of the last change in it, at first the lineage.

    ``last_run`` has the highest number; ``items`` has, by their keys, its work items.
    ``key`` is random and keys all digests of what may be secret; ``inputs`` has, by their digests,
    the inputs that builds rest on, and what their runs were seen to read.
    ``gaps`` says of a segment that is not there any more (pruned, or lost) with which one the
    history goes on, if any.
    """

    version: int
    serial: int
    lineage: str
    template: Template
    builds: dict[str, msgspec.Raw]
    workspace: str = "default"
    key: str = ""
    token: int = 0
    inputs: dict[str, msgspec.Raw] = {}
    last_run: Run | None = None
    items: dict[str, WorkItem] = {}
    sealed: SegmentRef | None = None
    gaps: dict[str, SegmentRef | None] = {}
    prev: str = ""


class Change(Document, frozen=True):
    """One atomic step of a state; ``builds`` maps a name to its new document, or to null.

    ``run`` is the number of the run that it is about; ``items`` has work items by their keys.
    """

    serial: int
    id: str
    at: datetime
    token: int
    by: Actor
    operation: str
    prev: str
    why: str = ""
    run: int | None = None
    builds: dict[str, msgspec.Raw] = {}
    inputs: dict[str, msgspec.Raw] = {}
    last_run: Run | None = None
    items: dict[str, WorkItem] = {}
    template: Template | None = None
    late: Late | None = None
    gaps: dict[str, SegmentRef | None] | None = None
    skip: Skip | None = None


class PendingChange(Struct, frozen=True, kw_only=True):
    """What somebody wants to change; the store adds serial, id, time, token and chain."""

    operation: str
    why: str = ""
    builds: Mapping[str, Build | msgspec.Raw | None] = {}
    inputs: Mapping[str, msgspec.Raw | None] = {}
    last_run: Run | None = None
    items: tuple[WorkItem, ...] = ()
    late: Late | None = None
    gaps: dict[str, SegmentRef | None] | None = None
    skip: Skip | None = None
    template: Template | None = None


def possibly_left(build: Build) -> tuple[Instance, ...]:
    """Instances that may still be there: of earlier runs, and the last unless it ended well.

    A builder removes its instance before Packer says that the build has finished.
    """
    last, known = build.instance, build.leftovers
    ended_well = build.status is BuildStatus.COMPLETE or build.evidence.finished
    ended_badly = build.status.is_final and not ended_well
    if last is None or not last.id or not ended_badly or last in known:
        return known
    return (*known, last)
