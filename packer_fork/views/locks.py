"""A lock for people: who, where, since when, alive or dead with the proof, and what helps."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from msgspec import Struct, structs

from packer_fork.locks import (
    LiveProcess,
    LockRecord,
    LockStatus,
    ParticipantStatus,
    Status,
    Waiter,
    advice,
)
from packer_fork.model import CiJob
from packer_fork.views import words
from packer_fork.views.document import indented
from packer_fork.views.hints import completed

_MEANING = {
    Status.FREE: "nobody holds it",
    Status.HELD: "its holder lives",
    Status.ORPHANED: "packer-fork is gone, processes of its Packer live",
    Status.ABANDONED: "nobody lives any more, that is proven",
    Status.UNKNOWN: "it cannot be known here whether anybody lives",
}


class ParticipantReport(Struct, frozen=True, kw_only=True):
    """A participant of a lock, and the sources that it builds now."""

    id: str
    number: int
    status: Status
    evidence: str
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
    status: Status
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
    token: int | None = None
    evidence: tuple[str, ...] = ()
    processes: tuple[LiveProcess, ...] = ()
    participants: tuple[ParticipantReport, ...] = ()
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
            status=status.status,
            id=status.id,
            evidence=status.evidence,
            processes=status.processes,
            participants=tuple(_participant(each, status.record) for each in status.participants),
            waiters=status.waiters,
            error=status.error,
            circuit=circuit,
            remedy=completed(advice(status)),
        )
        return report if status.record is None else _with_holder(report, status.record)


def _participant(evidence: ParticipantStatus, record: LockRecord | None) -> ParticipantReport:
    participant, claims = evidence.participant, record.claims if record else ()
    holder, number = participant.holder, participant.number
    return ParticipantReport(
        id=participant.id,
        number=number,
        status=evidence.status,
        evidence=evidence.evidence,
        user=holder.by.user,
        host=holder.by.host,
        pid=holder.process.pid,
        command=holder.command,
        directory=holder.directory,
        ci=holder.ci,
        joined=participant.joined,
        age_seconds=_age(participant.joined),
        sources=tuple(claim.source for claim in claims if claim.participant == number),
    )


def _age(moment: datetime) -> float:
    return round((datetime.now(UTC) - moment).total_seconds(), 3)


def _with_holder(report: Report, record: LockRecord) -> Report:
    holder = record.first.holder
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
        run=record.run or None,
        token=record.token,
    )


def as_json(reports: Sequence[Report], *, single: bool) -> str:
    """One object for one template; otherwise ``{"locks": [...]}``."""
    document = reports[0] if single else {"locks": reports}
    return indented(document)


def lines(report: Report) -> list[str]:
    """Everything about one lock: its status first, then the command that helps."""
    where = f" ({report.workspace})" * (report.workspace != "default")
    said = [f"{report.template}{where}: {report.status} ({_MEANING[report.status]})"]
    said += [_fact("to do", report.remedy)] if report.remedy else []
    if report.status is not Status.FREE:
        said += [_fact(key, value) for key, value in _facts(report) if value]
    shown = report.participants if _has_parts(report) else ()
    said += [_fact("holder", _line(each)) for each in shown]
    said += [_fact("evidence", proof) for proof in report.evidence]
    kind = "process" if report.status in (Status.HELD, Status.ORPHANED) else "leaked"
    said += [_fact(kind, f"{p.pid}  {p.command}  ({p.how})") for p in report.processes]
    said += [_fact("waiting", _waiter(n, w)) for n, w in enumerate(report.waiters, 1)]
    said += [_fact("error", report.error)] if report.error else []
    said += [_fact("store", report.circuit)] if report.circuit != "closed" else []
    return said


def _has_parts(report: Report) -> bool:
    """Whether the participants say more than the lock itself."""
    return len(report.participants) > 1 or any(each.sources for each in report.participants)


def _line(participant: ParticipantReport) -> str:
    """Who, and which sources it builds."""
    builds = ", ".join(name or "the end of the run" for name in participant.sources)
    return (
        f"{participant.user}@{participant.host}, pid {participant.pid}, {participant.status}, "
        f"joined {words.age(participant.joined)}: {builds or 'waits for others'} "
        f"({participant.id})"
    )


def _waiter(number: int, waiter: Waiter) -> str:
    if waiter.holder is None:
        return f"{number}. a process whose ticket cannot be read"
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
        ("token", str(report.token)),
    ]
