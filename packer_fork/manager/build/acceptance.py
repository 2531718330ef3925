"""Whether Packer accepts what is to be built: asked before anything is written or waited for.

Packer refuses a template as a whole, or single builds of it. It makes the other builds then
and ends with exit code 1, and so does `build`; `plan` reports either.

An output folder that exists refuses a build too, unless with ``-force``. That complaint only
counts while no run is under way: the run of another process may be writing into that folder,
and once it has ended the build may be up to date.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from msgspec import Struct

from packer_fork.errors import TemplateError
from packer_fork.locks import Status
from packer_fork.manager.build.prepare import Prepared, only
from packer_fork.manager.state_ref import StateRef, Template
from packer_fork.model import RunStatus, State
from packer_fork.packer.flags import PackerFlags
from packer_fork.packer.program import missing_plugin_hint
from packer_fork.packer.validate import Refusal, Validation

_MOST_NAMES = 20
_NO_BUILD_BLOCK = "Error: Missing build block"
"""Packer's own words for it from 1.7 on; before, it just builds nothing."""


class Refused(Struct, frozen=True):
    """``is_whole``: none of the builds that were asked for would begin."""

    error: TemplateError
    is_whole: bool


class Question(Struct, frozen=True, kw_only=True):
    """What Packer is asked about. ``folders_count``: whether an output folder that exists
    refuses a build; called only where there is one.
    """

    template: Template
    flags: PackerFlags
    prepared: Prepared
    environ: Mapping[str, str]
    folders_count: Callable[[], bool] = lambda: True


def is_settled(place: StateRef, state: State | None) -> bool:
    """Whether no run is under way, nor one left that has to be recovered. Raises StoreError."""
    last = state.last_run if state else None
    is_ended = last is None or last.status is not RunStatus.RUNNING
    return is_ended and place.store.status().status is Status.FREE


def refused(asked: Question, names: tuple[str, ...] | None) -> Refused | None:
    """Why Packer refuses to build `names` (None: every build it finds); None if it accepts."""
    prepared, flags = asked.prepared, asked.flags
    if prepared.is_empty:
        return _of_nothing(asked)
    chosen = only(prepared, flags, names) if names else None
    found = _refusal(asked, chosen or flags)
    if found is None:
        return None
    return Refused(_error(asked, found), is_whole=_is_whole(asked, names))


def require_loadable(asked: Question) -> None:
    """Raises TemplateError for what Packer refuses before it looks at single builds."""
    if found := _refusal(asked, _choosing_none(asked)):
        raise _error(asked, found)


def _is_whole(asked: Question, names: tuple[str, ...] | None) -> bool:
    if _refusal(asked, _choosing_none(asked)):
        return True
    if names is None:
        return False
    alone = (only(asked.prepared, asked.flags, (name,)) for name in names if len(names) > 1)
    return all(flags is not None and _refusal(asked, flags) for flags in alone)


def _choosing_none(asked: Question) -> PackerFlags:
    name = "-"  # no HCL name is without a dot
    while any(each.selector == name for each in asked.prepared.every):
        name += "-"
    return asked.flags.with_only((name,))


def _refusal(asked: Question, flags: PackerFlags) -> Refusal | None:
    arguments, whole = flags.validate_arguments(), asked.flags.validate_arguments()
    if arguments is None or whole is None:
        return None
    prepared = asked.prepared
    known = prepared.acceptances
    if known.accepts(arguments) or known.accepts(whole):  # then Packer accepts each part
        return None
    checked = (
        known.refusal(arguments)
        or Validation(prepared.program, prepared.template, arguments, asked.environ).result()
    )
    if checked.is_accepted:
        known.add(arguments)
    found = checked.refusal
    left = found and found.without_existing_folders()
    if left == found or (not flags.force and asked.folders_count()):
        return found
    return left


def _error(asked: Question, found: Refusal) -> TemplateError:
    template = asked.template.given
    hint = missing_plugin_hint(found.text, template) if asked.prepared.template.is_hcl else ""
    why = ""
    if found.without_existing_folders() != found:
        why = ", as an output folder exists: remove it, or build with -force"
    from packer_fork.packer.mask import Mask
    from packer_fork.packer.sensitive import standing_plainly

    secrets = standing_plainly(asked.prepared.template, asked.flags, asked.environ)
    text = f"Packer refuses {_label(asked.template)}{why}:\n\n{Mask(secrets).text(found.text)}"
    return TemplateError(f"{text}\n" if hint else text, hint=hint)


def _of_nothing(asked: Question) -> Refused:
    """Packer's own reason if it has one, else ours."""
    found = _refusal(asked, asked.flags)
    if found and not all(error.startswith(_NO_BUILD_BLOCK) for error in found.errors):
        return Refused(_error(asked, found), is_whole=True)
    return Refused(_nothing(asked), is_whole=True)


def _nothing(asked: Question) -> TemplateError:
    template, flags = _label(asked.template), asked.flags
    names = tuple(dict.fromkeys(each.selector for each in asked.prepared.every))
    if not names:
        return TemplateError(
            f"There is nothing to build in {template}: no build block has a source.",
            hint='Add one, for example: build { sources = ["null.example"] }',
        )
    only_, except_ = (",".join(values) for values in (flags.only, flags.except_))
    if not except_:
        text = f"-only={only_} matches no build of {template}."
    elif not only_:
        text = f"-except={except_} leaves no build of {template}."
    else:
        text = f"-only={only_} and -except={except_} leave no build of {template}."
    known, more = ", ".join(names[:_MOST_NAMES]), ", ..." if names[_MOST_NAMES:] else ""
    return TemplateError(text, hint=f"Its builds are {known}{more}.")


def _label(template: Template) -> str:
    """The template in a sentence, where a single dot would be lost."""
    return f"{template.path.name}/" if template.path.is_dir() else template.given
