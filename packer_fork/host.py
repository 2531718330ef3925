"""Where we run: machine, user, this very process, CI job, git checkout.

Used by ``lock status``, whose start-up counts: what is costly is imported at use.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Mapping
from pathlib import Path

from packer_fork.locks import ProcessId
from packer_fork.model import Actor, CiJob, Git

_GIT_SECONDS = 2.0


def boot_id() -> str:
    """The kernel's random name for this boot; empty where the system does not tell (macOS)."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def pid_namespace() -> str:
    """The PID namespace that our pids mean something in; empty where there is none."""
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""


def identify(pid: int) -> ProcessId:
    """What tells the process `pid` from any other; it lives, or has not been waited for yet."""
    return ProcessId(pid=pid, started=_started(pid), boot=boot_id(), namespace=pid_namespace())


def this_process() -> ProcessId:
    return identify(os.getpid())


def _started(pid: int) -> int:
    """Field 22 of ``/proc/PID/stat`` (proc(5)), counted from behind the name."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return 0
    return int(stat.rpartition(b")")[2].split()[19])


def this_actor() -> Actor:
    """User, host and pid of this process, by the user's number where it has no name."""
    return Actor(user=_user(), host=os.uname().nodename, pid=os.getpid())


def _user() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def ci_job(environ: Mapping[str, str]) -> CiJob | None:
    """The CI job that `environ` tells of, with its address where that can be known."""
    for service, (mark, job, url) in _SERVICES.items():
        if environ.get(mark, "").lower() not in ("", "0", "false"):
            return CiJob(service=service, job=environ.get(job, ""), url=_url(url, environ))
    return None


_SERVICES = {
    "GitHub Actions": (
        "GITHUB_ACTIONS",
        "GITHUB_JOB",
        "{GITHUB_SERVER_URL}/{GITHUB_REPOSITORY}/actions/runs/{GITHUB_RUN_ID}",
    ),
    "GitLab CI": ("GITLAB_CI", "CI_JOB_NAME", "{CI_JOB_URL}"),
    "Jenkins": ("JENKINS_URL", "JOB_NAME", "{BUILD_URL}"),
    "Buildkite": ("BUILDKITE", "BUILDKITE_LABEL", "{BUILDKITE_BUILD_URL}#{BUILDKITE_JOB_ID}"),
    "CircleCI": ("CIRCLECI", "CIRCLE_JOB", "{CIRCLE_BUILD_URL}"),
    "Azure Pipelines": (
        "TF_BUILD",
        "SYSTEM_JOBDISPLAYNAME",
        "{SYSTEM_COLLECTIONURI}{SYSTEM_TEAMPROJECT}/_build/results?buildId={BUILD_BUILDID}",
    ),
    "CI": ("CI", "", ""),
}
"""Per service: the variable that gives it away, the job's name, the job's address."""


def _url(pattern: str, environ: Mapping[str, str]) -> str:
    try:
        return pattern.format_map(environ)
    except KeyError:
        return ""


def git_of(directory: Path) -> Git | None:
    """Commit, branch (empty if detached) and dirty flag; None where git cannot tell.

    Never raises, takes no lock in the checkout, and waits no longer than two seconds.
    """
    import subprocess

    command = ["git", "-C", str(directory), "status", "--porcelain=v2", "--branch"]
    try:
        done = subprocess.run(
            [*command, "--untracked-files=no"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_GIT_SECONDS,
            check=False,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"},
        )
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return _parse_git(done.stdout.decode("utf-8", "replace")) if done.returncode == 0 else None


def _parse_git(status: str) -> Git | None:
    """Read ``git status --porcelain=v2 --branch``: ``# branch.*`` headers, then what changed."""
    lines = status.splitlines()
    headers = dict(line[2:].split(" ", 1) for line in lines if line.startswith("# branch."))
    commit, branch = headers.get("branch.oid", ""), headers.get("branch.head", "")
    if not commit or commit.startswith("("):
        return None
    dirty = any(not line.startswith("#") for line in lines)
    return Git(commit=commit, branch="" if branch.startswith("(") else branch, dirty=dirty)
