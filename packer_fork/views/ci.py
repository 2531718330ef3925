"""What a CI service is told of a build, besides the lines that everybody sees.

Which one it is, the job's environment tells: ``GITHUB_ACTIONS``, ``GITLAB_CI``; a dotenv
file is written wherever ``PACKER_FORK_DOTENV`` names one.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TextIO

from packer_fork.errors import PackerForkError
from packer_fork.views.console import Console, color_of, standard

if TYPE_CHECKING:
    from packer_fork.events import Event, Notify
    from packer_fork.views.results import Results


class Reporter(Protocol):
    """A view that has something to do at the end as well."""

    def __call__(self, event: Event) -> None: ...

    def close(self, results: Results) -> None: ...


def console(environ: Mapping[str, str], *, color: bool = True) -> Console:
    """The console for this job, or for a terminal."""
    usual = standard(environ, color=color)
    if environ.get("GITHUB_ACTIONS") == "true":
        from packer_fork.views.github import GitHubConsole

        # The log of a job is no terminal, but it shows colours to those who ask for them.
        return GitHubConsole(sys.stdout, sys.stderr, color=color_of(environ, color=color))
    return usual


def is_watched(environ: Mapping[str, str]) -> bool:
    """Whether somebody looks at one terminal that can draw, behind both of our streams."""
    from packer_fork import host

    if host.ci_job(environ) or environ.get("TERM", "") in ("", "dumb", "unknown"):
        return False
    streams = (sys.stdout, sys.stderr)
    if not all(stream.isatty() for stream in streams):
        return False
    return len({os.fstat(stream.fileno()).st_rdev for stream in streams}) == 1


@contextlib.contextmanager
def reported(environ: Mapping[str, str], stream: TextIO) -> Iterator[Notify]:
    """A view for whatever the CI service of `environ` wants to know, told at the end at last.

    `stream` takes what is meant for the service's log. A report that cannot be written is
    complained of there, and does no other harm.
    """
    from packer_fork.views.results import Results

    results = Results()
    reporters = list(_reporters(environ, stream))
    try:
        yield combined(results, *reporters)
    except PackerForkError as error:
        results.error = error.message
        raise
    finally:
        for reporter in reporters:
            _close(reporter, results, stream)


def combined(*views: Notify) -> Notify:
    """One view that hands each event to all of `views`, in their order."""

    def notify(event: Event) -> None:
        for view in views:
            view(event)

    return notify


def _reporters(environ: Mapping[str, str], stream: TextIO) -> Iterator[Reporter]:
    if environ.get("GITHUB_ACTIONS") == "true":
        from packer_fork.views.github import GitHub

        yield GitHub(environ, stream)
    if environ.get("GITLAB_CI") == "true":
        from packer_fork.views.gitlab import Sections

        yield Sections(stream)
    if environ.get("PACKER_FORK_DOTENV"):
        from packer_fork.views.gitlab import Dotenv

        yield Dotenv(Path(environ["PACKER_FORK_DOTENV"]))


def _close(reporter: Reporter, results: Results, stream: TextIO) -> None:
    try:
        reporter.close(results)
    except OSError as error:
        with contextlib.suppress(OSError):
            stream.write(f"packer-fork: warning: the CI report cannot be written: {error}\n")
