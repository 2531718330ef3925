"""``packer validate``: whether Packer would build a template at all, in Packer's own words.

It checks what ``packer build`` checks before its first build, with three differences:

- It has no ``-force``: a builder complains of an output folder that exists.
- Packer 1.7 and later do not run data sources in it unless told so. A script or number that
  a data source gives is then unknown, and may be refused although ``build`` accepts it. Before
  1.8.5 Packer cannot be told: of a template with data blocks its syntax alone counts.
- It says nothing of ``-only`` that matches no build, and before 1.7 of a missing build block.

Its plain output is read, not ``-machine-readable``: there Packer hides sensitive values of its
own accord in every release, and a backslash stays one. An unusable configuration of Packer is
told on standard error alone, which is only asked for then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec import Struct

from packer_fork.packer import diagnostics
from packer_fork.packer.program import Program
from packer_fork.template.reader import ParsedTemplate

_REFUSED = 1
"""Packer's exit code for it; any other is a Packer that crashed or was killed."""

_SINCE_DATA_SOURCES = (1, 7, 0)
_SINCE_EVALUATE_DATA_SOURCES = (1, 8, 5)


class Refusal(Struct, frozen=True):
    """Packer's errors, each with its place. They may hold secrets that Packer does not hide."""

    errors: tuple[str, ...]

    @property
    def text(self) -> str:
        return "\n\n".join(self.errors)

    def without_existing_folders(self) -> Refusal | None:
        """This refusal without errors that only tell of an output folder that exists."""
        left = tuple(error for error in self.errors if not diagnostics.is_of_folders(error))
        return Refusal(left) if left else None


class Checked(Struct, frozen=True):
    """``refusal``: None if Packer would build. ``is_accepted``: it says so, and did not merely
    fail to answer: what Packer cannot say now, it says in the build.
    """

    refusal: Refusal | None = None
    is_accepted: bool = False


class Validation:
    """Whether Packer would build `template` with these flags.

    Packer starts at once, so that the caller can do other things before it asks for the result.
    The caller closes a validation whose result it does not need.
    """

    def __init__(
        self,
        program: Program,
        template: ParsedTemplate,
        arguments: Sequence[str],
        environ: Mapping[str, str],
    ) -> None:
        from packer_fork.packer.question import Question

        how = _how(program) if may_have_data(template) else ()
        self._command = (program.path, "validate", *how, *arguments, template.given)
        self._environ = {**environ, "PACKER_NO_COLOR": "1"}
        self._question = Question(self._command, self._environ)

    def result(self) -> Checked:
        """Wait for Packer."""
        import subprocess

        from packer_fork.packer.question import ask

        try:
            answer = self._question.answer()
            if answer.code == _REFUSED and not answer.output.strip():
                answer = ask(self._command, self._environ, stderr=subprocess.STDOUT)
        except (OSError, subprocess.TimeoutExpired):
            return Checked()
        if answer.code != _REFUSED:
            return Checked(is_accepted=answer.code == 0)
        errors = diagnostics.errors_of(answer.output) or ("Packer gives no reason.",)
        return Checked(Refusal(errors))

    def close(self) -> None:
        """End Packer if it still runs."""
        self._question.close()


def _how(program: Program) -> tuple[str, ...]:
    """The flags by which a template with data blocks is only refused if it is wrong."""
    if program.version < _SINCE_DATA_SOURCES:
        return ()
    is_newer = program.version >= _SINCE_EVALUATE_DATA_SOURCES
    return ("-evaluate-datasources" if is_newer else "-syntax-only",)


def may_have_data(template: ParsedTemplate) -> bool:
    """Whether there is a data block, or may be one in a text that we cannot read."""
    contents = template.contents
    return template.is_hcl and (bool(contents.sections.data) or not contents.is_parsable)
