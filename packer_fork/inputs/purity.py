"""Whether Packer's evaluation of a template is the same each time, and what else it rests on.

Of HCL, functions that are not known to be pure are taken not to be; of JSON templates the
names of functions cannot be told from other words, so that those are listed that are not pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from packer_fork.inputs.request import InputsRequest
from packer_fork.inputs.texts import Values
from packer_fork.inputs.unknowns import REMOTE_FUNCTIONS
from packer_fork.template.contents import ANYTHING, Contents, Section
from packer_fork.template.hcl import OPENING

_PURE = frozenset(
    (
        *("abs", "abspath", "alltrue", "anytrue", "basename", "base64decode", "base64encode"),
        *("base64gzip", "can", "ceil", "chomp", "chunklist", "cidrhost", "cidrnetmask"),
        *("cidrsubnet", "cidrsubnets", "coalesce", "coalescelist", "compact", "concat", "contains"),
        *("convert", "csvdecode", "dirname", "distinct", "element", "endswith", "flatten", "floor"),
        *("format", "formatdate", "formatlist", "indent", "index", "join", "jsondecode"),
        *("jsonencode", "keys", "length", "log", "lookup", "lower", "max", "md5", "merge", "min"),
        *("parseint", "pathexpand", "pow", "range", "reverse", "replace", "regex", "regexall"),
        *("regex_replace", "rfc3339_parse", "rsadecrypt", "setintersection", "setproduct"),
        *("setunion", "sha1", "sha256", "sha512", "signum", "slice", "sort", "split", "startswith"),
        *("strcontains", "strrev", "substr", "sum", "textdecodebase64", "textencodebase64"),
        *("timeadd", "title", "trim", "trimprefix", "trimspace", "trimsuffix", "try"),
        *("unix_timestamp_parse", "upper", "urlencode", "uuidv5", "values", "yamldecode"),
        *("yamlencode", "zipmap"),
    )
)
"""HCL functions of Packer, 1.6 to 1.16, whose value follows from their arguments, $HOME and the
working directory. ``fileset`` is none of them: its folder is only known to Packer."""

_ENV = "env"
_CHANGING = (*REMOTE_FUNCTIONS, "timestamp", "isotime", "strftime", "uuid")
"""Functions of JSON templates that are not pure."""

_SPACE = rb"(?:\s|/\*.*?\*/|(?:#|//)[^\n]*\n)*"
_CHANGING_IN_TEXTS = re.compile(
    r"\b(?:file\w*|templatefile|timestamp|uuidv4|bcrypt|env|vault|consul_key|(?:legacy|aws)_\w+)"
    + _SPACE.decode()
    + r"\(",
    re.DOTALL,
)
"""What a text for ``templatefile()`` may call, and is not pure."""

_HCL_ENV = re.compile(
    rb"\benv" + _SPACE + rb"\(" + _SPACE + rb'(?:\\?"([A-Za-z_]\w*)\\?")?', re.DOTALL
)
_LEGACY_ENV = re.compile(rb'\benv\b(?:\s+(?:`|\\")([A-Za-z_]\w*)(?:`|\\"))?')
_ACTION = re.compile(rb"\{\{.*?\}\}", re.DOTALL)
_ESCAPE = re.compile(rb"\\(?:u00([2-7][0-9a-fA-F])|.)", re.DOTALL)
_SPACES = {rb"\n": b"\n", rb"\r": b"\r", rb"\t": b"\t", rb"\/": b"/"}


def is_pure(request: InputsRequest, parsed: Contents, values: Values) -> bool:
    """Whether Packer evaluates the template alike as long as the files that it reads, and the
    variables in `environment` are the same.
    """
    if parsed.sections.data:
        return False
    if not request.template.is_hcl:
        return parsed.calls.isdisjoint(_CHANGING) and not _has_templates(request)
    known = parsed.calls <= _PURE | OPENING | {_ENV}
    opened = (mention for mention in parsed.mentions if mention.opened)
    return known and not any(ANYTHING in text for each in opened for text in values.texts(each))


def is_pure_text(parsed: Contents, text: str) -> bool:
    """The same of a file that Packer reads."""
    return "templatefile" not in parsed.calls or _CHANGING_IN_TEXTS.search(text) is None


def environment(request: InputsRequest, parsed: Contents) -> frozenset[str] | None:
    """The variables of the environment that the template names; None if one is not literal."""
    if _ENV not in parsed.calls:
        return frozenset()
    is_hcl = request.template.is_hcl
    sources = [
        file.source
        if is_hcl and file.path.suffix != ".json"
        else _ESCAPE.sub(_unescaped, file.source)
        for file in request.template.files
    ]
    if not is_hcl:
        actions = [action[0] for source in sources for action in _ACTION.finditer(source)]
        return _names(name for each in actions for name in _LEGACY_ENV.findall(each))
    return _names(name for source in sources for name in _HCL_ENV.findall(source))


def _unescaped(escape: re.Match[bytes]) -> bytes:
    """Of JSON: spaces and ASCII as they stand, quotes and backslashes as before."""
    text = bytes.fromhex(escape[1].decode()) if escape[1] else _SPACES.get(escape[0], escape[0])
    return rb"\%b" % text if text in (b'"', b"\\") else text


_CHECKED_BY_PATHS = frozenset(
    (
        *("", "null", "file", "shell", "shell-local", "powershell", "windows-shell"),
        *("windows-restart", "breakpoint", "sleep"),
        *("manifest", "checksum", "compress", "artifice"),
    )
)
"""Packer's own plugins, which check a template by itself and by whether files exist."""


def is_checked_by_paths(types: Iterable[str], sections: Iterable[Section]) -> bool:
    """Whether ``packer validate`` looks at nothing beside the template, the environment, and
    whether files exist that the template names. It reads keys that an attribute ``..._file`` names.
    """
    keys = (key for section in sections for key in section.tokens)
    return _CHECKED_BY_PATHS.issuperset(types) and not any("_file" in key for key in keys)


def _names(found: Iterable[bytes]) -> frozenset[str] | None:
    names = frozenset(name.decode() for name in found)
    return None if "" in names or not names else names


def _has_templates(request: InputsRequest) -> bool:
    """Whether a value that is given to a variable is a template in turn."""
    given = [text.encode("utf-8", "surrogateescape") for text in request.assignments]
    given += [file.source for file in request.template.variable_files]
    return any(b"{{" in text for text in given)
