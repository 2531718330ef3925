"""Positional arguments behind an optional TEMPLATE, which comes first."""

from __future__ import annotations


def after_template(
    template: str | None, *words: str | None, names: str
) -> tuple[str | None, tuple[str, ...]]:
    """TEMPLATE, or None if it was left out, and the words that must follow it.

    A command line without TEMPLATE fills the parameters from the first on, so that the last
    stays empty. `names`: the words as the help shows them. Raises UsageError if one is missing.
    """
    from packer_fork.errors import UsageError

    given = tuple(word for word in (template, *words) if word is not None)
    if len(given) < len(words):
        raise UsageError(
            f"missing argument: {names.split()[len(given)]}", hint=f"give {names} after TEMPLATE"
        )
    return (template, given[1:]) if len(given) > len(words) else (None, given)
