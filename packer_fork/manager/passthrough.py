"""Packer's own commands: Packer replaces the packer-fork process."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from packer_fork import config
from packer_fork.errors import PackerError
from packer_fork.manager import project
from packer_fork.packer import program
from packer_fork.packer.program import Program


def find_packer(arguments: Sequence[str], environ: Mapping[str, str]) -> Program:
    """The Packer that `build` would use for the template in `arguments`.

    Packer's commands name the template last; without one, the working directory's settings hold.
    Raises UsageError for a bad setting, PackerError if there is no usable Packer.
    """
    last = Path(arguments[-1]) if arguments else Path()
    path = last if os.path.lexists(last) else Path()
    settings, _ = config.load(project.settings_folder(Path(os.path.realpath(path))), environ, {})
    return program.find(settings.packer)


def exec_packer(arguments: Sequence[str], environ: Mapping[str, str]) -> NoReturn:
    """Become Packer with `arguments`; raises as `find_packer`."""
    found = find_packer(arguments, environ)
    kept = config.without_secrets(environ)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    # Python ignores these signals for itself, and another program inherits what is ignored.
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execve(found.path, [found.path, *arguments], kept)  # noqa: S606 (no shell)
    except OSError as error:
        raise PackerError(
            f"{found.path} cannot be started ({error.strerror}).",
            hint="Check that it is Packer, for this machine's processor, and executable.",
        ) from error
