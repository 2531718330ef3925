"""A lock for people: who, where, since when, alive or dead with the proof, and what helps."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from msgspec import Struct, structs

from packer_fork.locks import LiveProcess, LockRecord, LockStatus, MemberStatus, Verdict, Waiter
from packer_fork.model import CiJob
from packer_fork.views import words
from packer_fork.views.document import indented

_MEANING = {
    Verdict.FREE: "nobody holds it",
    Verdict.HELD: "its holder lives",
    Verdict.ORPHANED: "packer-fork is gone, processes of its Packer live",
    Verdict.ABANDONED: "nobody lives any more, that is proven",
    Verdict.UNKNOWN: "it cannot be known here whether anybody lives",
}


class Sharer(Struct, frozen=True, kw_only=True):
    """One of those that hold a shared lock, and the sources that it builds now."""

    id: str
    number: int
    verdict: Verdict
    proof: str
    user: str
    host: str
    pid: int
    command: tuple[str, ...]
    directory: str
    ci: CiJob | None
    joined: datetime
    age_seconds: float
    sources: tuple[str, ...]


class Report(Struct, frozen=True, kw_only=True):
    """A lock as ``lock status --json`` prints it. Times are RFC 3339 in UTC, ages seconds."""

    template: str
    workspace: str
    location: str
    verdict: Verdict
    id: str
    operation: str | None = None
    user: str | None = None
    host: str | None = None
    pid: int | None = None
    command: tuple[str, ...] = ()
    directory: str | None = None
    ci: CiJob | None = None
    created: datetime | None = None
    age_seconds: float | None = None
    run: int | None = None
    tenure: int | None = None
    proof: tuple[str, ...] = ()
    processes: tuple[LiveProcess, ...] = ()
    members: tuple[Sharer, ...] = ()
    waiters: tuple[Waiter, ...] = ()
    error: str = ""
    circuit: str = ""
    remedy: str = ""

    @classmethod
    def of(
        cls, label: str, workspace: str, location: str, status: LockStatus, circuit: str
    ) -> Report:
        report = cls(
            template=label,
            workspace=workspace,
            location=location,
            verdict=status.verdict,
            id=status.id,
            proof=status.proof,
            processes=status.processes,
            members=tuple(_sharer(each, status.record) for each in status.members),
            waiters=status.waiters,
            error=status.error,
            circuit=circuit,
            remedy=remedy(status),
        )
        return report if status.record is None else _with_holder(report, status.record)


def _sharer(status: MemberStatus, record: LockRecord | None) -> Sharer:
    member, share = status.member, record.share if record else None
    holder, claims = member.holder, share.claims if share else ()
    return Sharer(
        id=member.id,
        number=member.number,
        verdict=status.verdict,
        proof=status.proof,
        user=holder.by.user,
        host=holder.by.host,
        pid=holder.process.pid,
        command=holder.command,
        directory=holder.directory,
        ci=holder.ci,
        joined=member.joined,
        age_seconds=_age(member.joined),
        sources=tuple(claim.source for claim in claims if claim.member == member.number),
    )


def _age(moment: datetime) -> float:
    return round((datetime.now(UTC) - moment).total_seconds(), 3)


def _with_holder(report: Report, record: LockRecord) -> Report:
    holder = record.holder
    return structs.replace(
        report,
        operation=holder.operation,
        user=holder.by.user,
        host=holder.by.host,
        pid=holder.process.pid,
        command=holder.command,
        directory=holder.directory,
        ci=holder.ci,
        created=record.created,
        age_seconds=_age(record.created),
        run=record.run,
        tenure=record.tenure,
    )


def as_json(reports: Sequence[Report], *, single: bool) -> str:
    """One object for one template; otherwise ``{"locks": [...]}``."""
    document = reports[0] if single else {"locks": reports}
    return indented(document)


def lines(report: Report) -> list[str]:
    """Everything about one lock."""
    where = f" ({report.workspace})" * (report.workspace != "default")
    said = [f"{report.template}{where}: {report.verdict} ({_MEANING[report.verdict]})"]
    if report.verdict is not Verdict.FREE:
        said += [_fact(key, value) for key, value in _facts(report) if value]
    said += [_fact("member", line) for line in map(_member, report.members)]
    said += [_fact("proof", proof) for proof in report.proof]
    said += [_fact("process", f"{p.pid}  {p.command}  ({p.how})") for p in report.processes]
    said += [_fact("waiting", _waiter(n, w)) for n, w in enumerate(report.waiters, 1)]
    said += [_fact("error", report.error)] if report.error else []
    said += [_fact("store", report.circuit)] if report.circuit != "closed" else []
    said += [_fact("to do", report.remedy)] if report.remedy else []
    return said


def _member(sharer: Sharer) -> str:
    """Who, and what of the run is in its hands."""
    builds = ", ".join(name or "the end of the run" for name in sharer.sources)
    return (
        f"{sharer.user}@{sharer.host}, pid {sharer.pid}, {sharer.verdict}, "
        f"joined {words.age(sharer.joined)}: {builds or 'waits for others'} ({sharer.id})"
    )


def _waiter(number: int, waiter: Waiter) -> str:
    if waiter.holder is None:
        return f"{number}. somebody whose ticket cannot be read"
    waited = (datetime.now(UTC) - waiter.since).total_seconds() if waiter.since else 0.0
    since = f" for {words.duration(waited)}" if waiter.since else ""
    return f"{number}. {waiter.holder.by} (pid {waiter.holder.process.pid}){since}"


def _fact(key: str, value: str) -> str:
    return f"  {key + ':':<10} {value}"


def _facts(report: Report) -> list[tuple[str, str]]:
    if report.created is None:
        return [("lock ID", report.id)]
    return [
        ("lock ID", report.id),
        ("operation", f"{report.operation}{f', run {report.run}' if report.run else ''}"),
        ("who", f"{report.user}@{report.host}, pid {report.pid}"),
        ("command", " ".join(report.command)),
        ("in", report.directory or ""),
        ("CI job", (report.ci.url or report.ci.job or report.ci.service) if report.ci else ""),
        ("since", f"{words.moment(report.created)} ({words.age(report.created)})"),
        ("tenure", str(report.tenure)),
    ]


def remedy(status: LockStatus) -> str:
    """The one command that helps, or what to wait for."""
    match status.verdict:
        case Verdict.HELD:
            return _of_held(status)
        case Verdict.ORPHANED if not any(p.command == "packer build" for p in status.processes):
            return (
                f"only leftovers of its Packer hold it: packer-fork force-unlock {status.id} --kill"
            )
        case Verdict.ORPHANED:
            return (
                "wait, Packer finishes and the next build takes its results over; "
                f"if it hangs: packer-fork force-unlock {status.id} --kill"
            )
        case Verdict.ABANDONED:
            return f"packer-fork force-unlock {status.id}   (or just build: it is taken over)"
        case Verdict.UNKNOWN:
            return f"if you know that nobody uses it: packer-fork force-unlock {status.id}"
        case Verdict.FREE:
            return ""


def _of_shared(status: LockStatus) -> str:
    """The dead need nobody's help; who hangs is let go of alone."""
    return (
        "wait for it, what a dead member had is built by others; if one hangs: packer-fork "
        f"force-unlock MEMBER --kill there, or --allow-live from here; all: {status.id}"
    )


def _of_held(status: LockStatus) -> str:
    if status.members:
        return _of_shared(status)
    way = f"wait for it; if it hangs: packer-fork force-unlock {status.id} --kill"
    if status.record is None or not status.record.lease or status.processes:
        return way
    return (
        f"{way} on {status.record.holder.by.host}, or with --allow-live from here; "
        "if that machine is gone, the lease ends by itself"
    )
