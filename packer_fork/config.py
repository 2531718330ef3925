"""Settings: flag, else environment, else packer-fork.toml, else default.

Each setting is one field of ``Settings``; its environment variable is
``PACKER_FORK_`` and its name in capitals.
"""

import re
import shlex
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import msgspec
from msgspec import Meta, Struct, structs

from packer_fork.errors import UsageError, nearest

FILE_NAME = "packer-fork.toml"
MAX_FILE = 64 << 10
"""Bytes that packer-fork.toml may have."""

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = r"(?:(\d+(?:\.\d+)?)([smhd]))"
_PROJECT = r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}|"
_WORKSPACE = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"


Command = Annotated[tuple[str, ...], Meta(min_length=1)]
"""A program and its arguments."""

Glob = Annotated[str, Meta(min_length=1)]
"""Relative to the project. An empty one would be the project itself, with all in it."""


class Settings(Struct, frozen=True, kw_only=True):
    """All that can be set. Durations are seconds.

    ``state``: folder (or URL) of the states; "" keeps them beside each template.
    ``workspace``: which variant of the template's state. ``lock_timeout``: how long to
    wait for the lock. ``grace``: how long a cancelled Packer may clean up before it is
    killed. ``on_wrapper_death``: what becomes of Packer when packer-fork is killed; "auto"
    cancels it in CI and lets it finish elsewhere. ``abandoned``: take over an abandoned
    lock, or block until somebody unlocks it. ``packer``: the program to run.

    ``max_age``: how long a build is up to date at the most. ``inputs``: globs of more files
    that builds depend on; ``input_env``: environment variables; ``input_commands``: commands
    whose output counts; ``ignore``: globs of files
    that they do not depend on; ``observe``: whether files count that Packer is seen to read,
    for all builds that may have read them ("strict"), or narrowed by what names them ("auto");
    ``ignore_vars``: variables; ``assume_unchanged``: what cannot
    be known and is trusted all the same. ``artifact_check``: by builder ID, a command that
    exits 0 if the artifact, whose ID is added to it, still exists. ``retries``: how often
    failed sources are built again, the first time after ``retry_pause``; ``fail_fast``:
    cancel the others when one fails; ``isolate``: a Packer of its own for each source;
    ``max_sources``: how many this machine builds at a time of a run that many share.

    With a shared store: ``project`` names what its states stand below; ``lock_ttl``: how long
    an abandoned lock lasts; ``on_lock_lost``: what becomes of Packer when its lock is lost,
    "auto" cancels it with a shared store and lets it finish else, "strict" cancels it also
    where that cannot be known; ``outbox``: folder for results that the store does not take.
    ``store_patience``: how long servers that are away are asked. ``store_ca``,
    ``store_certificate``, ``store_key``: PEM files; ``store_username`` and ``store_password``
    for etcd, ``store_token`` for Consul.

    ``keep_runs``, ``keep_days``: history is pruned beyond so many runs that is also older;
    0 sets no such bound. ``backup_every``: after so many changes the state is backed up at
    the end of a build, 0 for never; ``keep_backups``: how many of the backups stay that
    nobody asked for.

    ``shared_with_group``: the group that may read and change states, "" for none.

    ``metrics_textfile``: file, or folder with a file for each state, that metrics are written
    to after each run; "" for none.
    """

    state: str = ""
    workspace: str = "default"
    lock_timeout: float = 0.0
    grace: float = 900.0
    on_wrapper_death: Literal["auto", "cancel", "finish"] = "auto"
    abandoned: Literal["take", "block"] = "take"
    project: str = ""
    lock_ttl: float = 60.0
    on_lock_lost: Literal["auto", "cancel", "finish", "strict"] = "auto"
    outbox: str = ""
    store_patience: float = 20.0
    store_ca: str = ""
    store_certificate: str = ""
    store_key: str = ""
    store_username: str = ""
    store_password: str = ""
    store_token: str = ""
    packer: str = "packer"
    max_age: float = 30 * 86400.0
    inputs: tuple[Glob, ...] = ()
    input_env: tuple[str, ...] = ()
    input_commands: tuple[Command, ...] = ()
    ignore: tuple[str, ...] = ()
    observe: Literal["auto", "strict", "off"] = "auto"
    ignore_vars: tuple[str, ...] = ()
    assume_unchanged: tuple[str, ...] = ()
    artifact_check: dict[str, tuple[str, ...]] = {}
    retries: Annotated[int, Meta(ge=0)] = 0
    retry_pause: float = 10.0
    fail_fast: bool = False
    isolate: bool = False
    max_sources: Annotated[int, Meta(ge=1)] = 1
    keep_runs: Annotated[int, Meta(ge=0)] = 0
    keep_days: Annotated[int, Meta(ge=0)] = 0
    backup_every: Annotated[int, Meta(ge=0)] = 100
    keep_backups: Annotated[int, Meta(ge=1)] = 10
    shared_with_group: str = ""
    metrics_textfile: str = ""


_DURATIONS = frozenset(
    {"lock_timeout", "lock_ttl", "grace", "max_age", "retry_pause", "store_patience"}
)
_PATHS = frozenset({"metrics_textfile", "outbox", "store_ca", "store_certificate", "store_key"})
_LISTS = frozenset(
    {"inputs", "input_env", "input_commands", "ignore", "ignore_vars", "assume_unchanged"}
)

_WORDS = {
    str: "a text",
    bool: "true or false",
    float: 'a duration like "90s"',
    tuple: 'a list of texts, ["a", "b"]',
    dict: 'a table of lists, "key" = ["a", "b"]',
}
"""What settings of these types are, as packer-fork.toml has them."""

SECRET = frozenset({"store_password", "store_token"})
"""Settings that are never shown, nor passed on to Packer."""

_FLAGS = {
    "inputs": "--input",
    "input_commands": "--input-command",
    "ignore_vars": "--ignore-var",
}
"""Flags with another name than their setting: each gives one value of a list."""


class Setting(Struct, frozen=True):
    """A value and where it comes from, for messages."""

    value: Any
    origin: str


def without_secrets(environ: Mapping[str, str]) -> dict[str, str]:
    """What opens the store is none of Packer's business, nor of its plugins and scripts."""
    kept = {_variable(name) for name in SECRET}
    return {name: value for name, value in environ.items() if name not in kept}


OTHER_VARIABLES = ("PACKER", "DOTENV", "LOCK_ID")
"""Variables of packer-fork that are no settings, without the prefix."""


def flag(name: str) -> str:
    """The command-line flag of a setting or another option."""
    return _FLAGS.get(name, f"--{name.replace('_', '-')}")


def _variable(name: str) -> str:
    return f"PACKER_FORK_{name.upper()}"


def load(
    folder: Path | None, environ: Mapping[str, str], flags: Mapping[str, Any]
) -> tuple[Settings, dict[str, Setting]]:
    """The settings that hold, and the origin of each.

    `folder` is the one of packer-fork.toml, None if there is none; `flags` are those
    given (None means not given). Raises UsageError that names place, key and remedy.
    """
    defaults = Settings()
    names = Settings.__struct_fields__
    found = {name: Setting(getattr(defaults, name), "default") for name in names}
    found |= _from_file(folder / FILE_NAME) if folder else {}
    found |= _from_environment(environ)
    for name, value in flags.items():
        if value is not None:
            found[name] = _given(name, value, found[name])
    given = {name: s for name, s in found.items() if s.origin != "default"}
    checked = {name: Setting(_check(name, s), s.origin) for name, s in given.items()}
    settings = structs.replace(defaults, **{name: s.value for name, s in checked.items()})
    return settings, found | checked


def _given(name: str, value: Any, before: Setting) -> Setting:
    """A flag replaces what was set; those that may be repeated add to it."""
    origin = flag(name)
    if name in _LISTS:
        value = _commands(value, origin) if name == "input_commands" else value
        more = before.origin != "default" and value
        return Setting([*before.value, *value], f"{before.origin}, {origin}" if more else origin)
    return Setting(value, origin)


def parse_duration(text: str) -> float:
    """Seconds of "90", "90s", "30m", "1h30m" or "30d". Raises ValueError."""
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    if not re.fullmatch(f"({_DURATION})+", text):
        raise ValueError(text)
    return sum(float(number) * _UNITS[unit] for number, unit in re.findall(_DURATION, text))


def _from_file(path: Path) -> dict[str, Setting]:
    import tomllib

    try:
        with path.open("rb") as file:
            text = file.read(MAX_FILE + 1)
        if len(text) > MAX_FILE:
            raise UsageError(f"{path} is larger than {MAX_FILE} bytes.", hint="Shorten it.")
        content = tomllib.loads(text.decode())
    except MemoryError as error:
        raise UsageError(f"{path} takes more memory than there is.", hint="Shorten it.") from error
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{path} cannot be read: {error}.", hint="Correct the file.") from error
    for key in content:
        if key not in Settings.__struct_fields__:
            hint = nearest(
                key, Settings.__struct_fields__, "`packer-fork help settings` lists every key."
            )
            raise UsageError(f"{path}: unknown key {key!r}.", hint=hint)
    if isinstance(state := content.get("state"), str) and state and "://" not in state:
        content["state"] = str(path.parent / state)
    for key in _PATHS & content.keys():
        if isinstance(content[key], str) and content[key]:
            content[key] = str(path.parent / content[key])
    return {key: Setting(value, str(path)) for key, value in content.items()}


def _from_environment(environ: Mapping[str, str]) -> dict[str, Setting]:
    _refuse_misspelt(environ)
    found = {}
    for name in Settings.__struct_fields__:
        variable = _variable(name)
        if environ.get(variable):
            text = environ[variable]
            found[name] = Setting(_listed(name, text, variable), variable)
    return found


def _refuse_misspelt(environ: Mapping[str, str]) -> None:
    """Raises UsageError for a variable that is almost a setting: it would be ignored.

    Variables that resemble no setting may belong to the user's own scripts.
    """
    prefix = _variable("")
    known = [*(name.upper() for name in Settings.__struct_fields__), *OTHER_VARIABLES]
    for variable in environ:
        name = variable.removeprefix(prefix)
        if name != variable and name not in known:
            import difflib

            if near := difflib.get_close_matches(name, known, n=1, cutoff=0.85):
                hint = f"did you mean {prefix}{near[0]}?"
                raise UsageError(f"{variable} is not a variable of packer-fork", hint=hint)


def _listed(name: str, text: str, variable: str) -> Any:
    """The value in an environment variable: lists with commas, commands a line each."""
    if name == "input_commands":
        return _commands(filter(str.strip, text.splitlines()), variable)
    return text.split(",") if name in _LISTS else text


def _commands(given: Iterable[Any], origin: str) -> list[Any]:
    """Commands as one types them, in words; those that are in words already stay as they are."""
    try:
        return [shlex.split(each) if isinstance(each, str) else each for each in given]
    except ValueError as error:
        hint = "Quote it as for a shell; none runs it."
        raise UsageError(f"{origin}: a command cannot be split ({error}).", hint=hint) from error


def _check(name: str, setting: Setting) -> Any:
    value = setting.value
    if name in _DURATIONS and isinstance(value, str):
        try:
            value = parse_duration(value)
        except ValueError as error:
            raise UsageError(
                f"{_place(name, setting)}: {value!r} is not a duration.",
                hint='Write it like "90s", "30m", "1h30m" or "30d".',
            ) from error
    if name in _DURATIONS and isinstance(value, int | float) and value < 0:
        raise UsageError(f"{_place(name, setting)} is negative.", hint="Give a time from 0 on.")
    if name == "workspace" and not re.fullmatch(_WORKSPACE, str(value)):
        raise UsageError(
            f"{setting.origin}: {value!r} is not a workspace name.",
            hint="Use letters, digits, '.', '_' and '-', at most 64, the first a letter or digit.",
        )
    if name == "project" and not re.fullmatch(_PROJECT, str(value)):
        raise UsageError(
            f"{setting.origin}: {value!r} is not the name of a project.",
            hint="Use letters, digits, '.', '_' and '-', at most 100, the first a letter or digit.",
        )
    if name == "lock_ttl" and isinstance(value, int | float) and value < 1:
        raise UsageError(f"{_place(name, setting)} is too short.", hint="Give 1s or more.")
    kind = _types()[name]
    try:
        return msgspec.convert(value, kind, strict=not isinstance(value, str))
    except msgspec.ValidationError as error:
        given = "" if name in SECRET else f" {value!r}"
        raise UsageError(
            f"{_place(name, setting)}:{given} is not what it takes.", hint=f"Give {_wanted(kind)}."
        ) from error


def _wanted(kind: Any) -> str:
    """What a setting of this type is to be."""
    if get_origin(kind) is Literal:
        return f"one of {', '.join(get_args(kind))}"
    if get_origin(kind) is Annotated:
        return f"a whole number, {get_args(kind)[1].ge} or more"
    if kind == tuple[Command, ...]:
        return 'a list of commands, [["git", "rev-parse", "HEAD"]]'
    if kind == tuple[Glob, ...]:
        return 'a list of globs, ["roles/**", "*.sh"], none of them empty'
    return _WORDS[get_origin(kind) or kind]


def _place(name: str, setting: Setting) -> str:
    """Flags and variables are named after what they set; of a file it takes the key, too."""
    return f"{setting.origin}: {name}" if setting.origin.endswith(FILE_NAME) else setting.origin


@cache
def _types() -> dict[str, Any]:
    return {field.name: field.type for field in msgspec.structs.fields(Settings)}
