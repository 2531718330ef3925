"""Packer's own flags of ``build``, ``plan`` and ``inputs``, for the completion of a shell."""

from __future__ import annotations

from typing import NamedTuple


class Flag(NamedTuple):
    name: str
    about: str
    takes_value: bool = False
    repeats: bool = False


LISTS = frozenset({"-only", "-except"})
"""Values of which several may stand in one word, with commas between them."""

FLAGS = (
    Flag("only", "Build these alone.", takes_value=True),
    Flag("except", "Build all but these.", takes_value=True),
    Flag("var", "NAME=VALUE: set a variable.", takes_value=True, repeats=True),
    Flag("var-file", "A file that sets variables.", takes_value=True, repeats=True),
    Flag("on-error", "What to do when a build fails.", takes_value=True),
    Flag("parallel-builds", "How many builds at a time; 0 for all.", takes_value=True),
    Flag("force", "Build even over artifacts that exist."),
    Flag("debug", "Pause after each step."),
    Flag("color", "Colour, unless it is =false."),
    Flag("timestamp-ui", "A time in front of each line."),
    Flag("machine-readable", "Print Packer's machine-readable lines."),
    Flag("warn-on-undeclared-var", "Warn of values for variables that there are not."),
    Flag("ignore-prerelease-plugins", "Use no plugins that are pre-releases."),
    Flag("use-sequential-evaluation", "Work out locals and data sources one by one."),
    Flag("skip-enforcement", "Do not enforce what HCP Packer would."),
)
