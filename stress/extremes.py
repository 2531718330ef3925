"""Bytes of extreme size, depth and shape for readers of outside bytes.

Each row prepares a folder and gives what is then done in it by a child of bounded memory
and time; that may raise PackerForkError, and nothing else.
"""

from __future__ import annotations

import contextlib
import io
import tarfile
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

from packer_fork import config
from packer_fork.codec import segment
from packer_fork.inputs.cache import DigestCache
from packer_fork.locks import LockStatus
from packer_fork.manager.build import evaluation
from packer_fork.manager.build.log_files import ItemLog, LogFiles
from packer_fork.manager.build.recorder import Recorder
from packer_fork.manager.state import backup, go_import, merge_results, transfer
from packer_fork.packer import lines, outline
from packer_fork.packer.mask import Mask
from packer_fork.packer.outcome import Outcome
from packer_fork.stores.local import lock_status
from packer_fork.stores.local.layout import Layout
from packer_fork.stores.local.reader import Reader
from packer_fork.template import reader
from packer_fork.template.grammar import TooComplexError
from stress import mangle
from stress.readers import an_item, folded, place_in
from tests.support import local_states
from tests.support.local_store import holder, open_store

Work = Callable[[], object]
Prepare = Callable[[Path], Work]

GIB = 1 << 30
_LONG = 100 << 20
_DEEP = 1_000_000
_SOME = 20_000
_NUMBER = b"1" * 5000


def _nothing(_: object) -> None:
    """What is told is of no interest."""


# Files that hold one document


def _read_state(path: Path) -> None:
    Reader(Layout(path.parent)).read()


def _salvage(path: Path) -> None:
    open_store(path.parent).recoverable()


def _read_lock(path: Path) -> None:
    lock_status.status(Layout(path.parent))


def _read_bundle(path: Path) -> None:
    backup.read(path)
    for each in backup.segments(path):
        segment.decode_unnamed(each, str(path))


def _read_template(path: Path) -> None:
    template = reader.read(str(path), [str(path)])
    outline.outline("1,,template-builder,n,null\n", template)
    with contextlib.suppress(TooComplexError):
        reader.assignments(template.variable_files[0])


def _settings(path: Path) -> None:
    config.load(path.parent, {}, {})


def _replay(path: Path) -> None:
    merge_results.merge(place_in(path.parent), path, _nothing, environ={})


def _secrets(path: Path) -> None:
    LogFiles(path.parent, "1-1").kept_secrets()


_DOCUMENTS: Mapping[str, tuple[str, Callable[[Path], object]]] = {
    "state": ("state.json", _read_state),
    "salvage": ("state.json", _salvage),
    "lock": ("lock", _read_lock),
    "backup": ("given", _read_bundle),
    "push": ("given.json", transfer.read),
    "import": ("given.json", go_import.read),
    "late": ("1-1-1.late.json", _replay),
    "secrets": ("1.secrets", _secrets),
    "hashes": ("hashes", DigestCache),
    "evaluations": ("evaluations", lambda path: evaluation.entry_in(path, b"key", "name")),
    "settings": (config.FILE_NAME, _settings),
    "json template": ("t.pkr.json", _read_template),
    "legacy template": ("t.json", _read_template),
    "hcl": ("t.pkr.hcl", _read_template),
}

_SHAPES: Mapping[str, Callable[[], bytes]] = {
    "one line of 100 MB": lambda: b"x" * _LONG,
    "lists, a million deep": lambda: b'{"a":' + b"[" * _DEEP + b"]" * _DEEP + b"}",
    "objects, a million deep": lambda: b'{"a":' * _DEEP + b"1" + b"}" * _DEEP,
    "invalid UTF-8": lambda: b'{"version":1,"a":"\xff","\xed\xa0\x80":2}',
    "a number of 5000 digits": lambda: b'{"version":' + _NUMBER + b',"serial":' + _NUMBER + b"}",
}


def _document(kind: str, data: Callable[[], bytes], folder: Path) -> Work:
    name, read = _DOCUMENTS[kind]
    path = folder / name
    path.write_bytes(data())
    return partial(read, path)


# Sources in HCL and TOML

_HCL: Mapping[str, Callable[[], bytes]] = {
    "one line of 100 MB": lambda: b"x" * _LONG,
    "invalid UTF-8": lambda: b'a = "\xff" \xed\xa0\x80 {}',
    "lists, a million deep": lambda: b"a = " + b"[" * _DEEP + b"]" * _DEEP,
    "blocks, 1000 deep": lambda: b"a {\n" * 1000 + b"}\n" * 1000,
    "lists, 1000 deep": lambda: b"a = " + b"[" * 1000 + b"]" * 1000,
    "calls, 1000 deep": lambda: b"a = " + b"f(" * 1000 + b"1" + b")" * 1000,
    "templates, 500 deep": lambda: b'a = "' + b'${"' * 500 + b'"}' * 500 + b'"',
    "conditions, 1000 deep": lambda: b"a = " + b"b ? c : " * 1000 + b"d",
    "20000 pieces in a text": lambda: b'a = "' + b"${var.a} x" * _SOME + b'"',
    "60000 pieces in a text": lambda: b'a = "' + b"${var.a} x" * 3 * _SOME + b'"',
    "40000 blanks in an open text": lambda: b'a = "' + b" " * 2 * _SOME,
    "5000 elements": lambda: b"a = [" + b"file(var.a), " * 5000 + b"]",
    "20000 variables": lambda: b"".join(b'variable "v%d" {}\n' % n for n in range(_SOME)),
}

_TOML: Mapping[str, Callable[[], bytes]] = {
    "lists, 5000 deep": lambda: b"inputs = " + b"[" * 5000 + b"]" * 5000,
    "tables, 5000 deep": lambda: b"a = " + b"{a = " * 5000 + b"1" + b"}" * 5000,
    "a number of 5000 digits": lambda: b"retries = " + _NUMBER,
    "a key of 100000 parts": lambda: b".".join([b"a"] * 100_000) + b" = 1",
    "a duration of 900000 digits": lambda: b'grace = "' + b"1" * 900_000 + b's"',
}


# Packer's output


def _fold(data: Callable[[], bytes], _: Path) -> Work:
    return lambda: folded([data()])


def _say(text: bytes) -> bytes:
    return b"1,,ui,say," + text + b"\n"


_OUTPUT: Mapping[str, Callable[[], bytes]] = {
    "a count of 5000 digits": lambda: b"1,null,artifact-count," + _NUMBER + b"\n",
    "a time of 5000 digits": lambda: _NUMBER + b",null,artifact-count,1\n",
    "one line of 100 MB": lambda: _say(b"==> null: " + b"x" * _LONG),
    "100 MB without any line": lambda: b"1" * _LONG,
    "100 MB of commas": lambda: b"1" + b"," * _LONG + b"\n",
    "a status said 60000 times": lambda: _say(b"Build 'x" + b"' finished after " * 60_000 + b":x"),
    "a status of no known build": lambda: _say(b"Build '" + b"' finished" * 90_000),
    "speakers 200000 times": lambda: _say(b"==> a" + b" (b" * 200_000),
    "colons 500000 times": lambda: _say(b"==> a" + b"a:" * 500_000),
    "500 unknown builds": lambda: b"".join(_say(b"==> b%d: x" % n) for n in range(500)),
    "3000 artifacts": lambda: b"".join(
        b"1,null,artifact,%d,builder-id,b\n1,null,artifact,%d,id,%d\n1,null,artifact,%d,end\n"
        % (n, n, n, n)
        for n in range(3000)
    ),
    "5000 addresses": lambda: b"".join(
        _say(b"==> null: Public IP: 10.0.%d.%d" % (n >> 8, n & 255)) for n in range(5000)
    ),
}


def _recorder(folder: Path) -> Recorder:
    log = ItemLog(folder / "1-1.log", _nothing)
    lock = open_store(folder).try_acquire(holder("run"))
    assert not isinstance(lock, LockStatus)
    return Recorder(Outcome(an_item(), {}), lock, Mask(["secret-value"]), log, _nothing)


def _pieces(byte: bytes) -> Iterator[bytes]:
    """100 MB as `packer.tail` reads them."""
    return (byte * (1 << 20) for _ in range(100))


def _recorded(way: str, folder: Path) -> Work:
    recorder = _recorder(folder)

    def work() -> None:
        for piece in _pieces(b"x"):
            getattr(recorder, way)(piece)
        recorder.end("interrupted", None)

    return work


def _masked(_: Path) -> Work:
    mask = Mask(["a" * 2000])
    text = "a" * lines.MAX_LINE
    return lambda: mask.text(text)


def _many_secrets(_: Path) -> Work:
    values = [f"secret-{number:06}" for number in range(5000)]
    text = "secret-x " * (lines.MAX_LINE // 9)
    return lambda: Mask(values).text(text)


# Bombs and archives


def _bomb(size: int, kind: str, folder: Path) -> Work:
    return _document(kind, lambda: mangle.bomb(size), folder)


def _bomb_segment(folder: Path) -> Work:
    local_states.small(folder)
    path = local_states.segments(folder)[0]
    data = path.read_bytes()
    head = 8 + int.from_bytes(data[4:8], "little")

    def work() -> None:
        segment.decode_unnamed(data[:head] + mangle.bomb(3 * GIB), str(path))

    return work


def _info(name: str, size: int = 0, kind: bytes = tarfile.REGTYPE, to: str = "") -> bytes:
    member = tarfile.TarInfo(name)
    member.size, member.type, member.linkname = size, kind, to
    return member.tobuf(tarfile.GNU_FORMAT)


def _archive(*parts: bytes) -> bytes:
    padded = (part + bytes(-len(part) % 512) for part in parts)
    return b"".join(padded) + bytes(1024)


def _sparse(size: int) -> bytes:
    """A header of old GNU format: one block of data in a file that is said to be so large."""
    header = bytearray(_info("state.json", 512, tarfile.GNUTYPE_SPARSE))
    header[386:398], header[398:410] = b"%011o\0" % 0, b"%011o\0" % 512
    header[482], header[483:495] = 0, b"%011o\0" % min(size, 8**11 - 1)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    return bytes(header)


def _nested() -> bytes:
    inner = io.BytesIO()
    with tarfile.open(fileobj=inner, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("state.json"))
    return inner.getvalue()


def _pax(size: int) -> bytes:
    return _info("x", size, tarfile.XHDTYPE)


_TARS: Mapping[str, Callable[[], bytes]] = {
    "a member said to be of 3 GiB": lambda: _archive(_info("state.json", 3 * GIB), b"x"),
    "a member said to be of 7 GiB": lambda: _archive(_info("state.json", 7 * GIB), b"x"),
    "a segment said to be of 3 GiB": lambda: _archive(_info("history/a.zst", 3 * GIB), b"x"),
    "a sparse member of 3 GiB": lambda: _archive(_sparse(3 * GIB), bytes(512)),
    "a link": lambda: _archive(_info("state.json", 0, tarfile.SYMTYPE, "/etc/passwd")),
    "a link to a member": lambda: _archive(_info("state.json", 0, tarfile.LNKTYPE, "state.json")),
    "a device": lambda: _archive(_info("state.json", 0, tarfile.CHRTYPE)),
    "a folder": lambda: _archive(_info("state.json", 0, tarfile.DIRTYPE)),
    "an absolute name": lambda: _archive(_info("/state.json", 1), b"x", _info("../state.json")),
    "a tar in a tar": lambda: _archive(_info("state.json", len(_nested())), _nested()),
    "a header of 3 GiB": lambda: _archive(_pax(3 * GIB), b"x"),
    "a name of 3 GiB": lambda: _archive(_info("x", 3 * GIB, tarfile.GNUTYPE_LONGNAME), b"x"),
    "a header that is no text": lambda: _archive(_pax(12), b"12 path=\xff\xfe\n"),
    "a header without a length": lambda: _archive(_pax(12), b"99999999999 a"),
    "a size that is no number": lambda: _archive(_pax(14), b"14 size=a1b2c\n", _info("x")),
    "a size below zero": lambda: _archive(_pax(11), b"11 size=-9\n", _info("x")),
    "100000 members": lambda: _archive(_info("x") * 100_000),
    "a bomb": lambda: _archive(
        _info("state.json", len(mangle.bomb(3 * GIB))), mangle.bomb(3 * GIB)
    ),
}


def _tar(data: Callable[[], bytes], folder: Path) -> Work:
    return _document("backup", data, folder)


def _rows() -> Iterator[tuple[str, Prepare]]:
    for kind in (each for each in _DOCUMENTS if each != "hcl"):
        for shape, data in _SHAPES.items():
            yield f"{kind}: {shape}", partial(_document, kind, data)
    yield "state: 100 MB of nulls", partial(_document, "state", partial(bytes, _LONG))
    for what, data in _HCL.items():
        yield f"hcl: {what}", partial(_document, "hcl", data)
    for what, data in _TOML.items():
        yield f"settings: {what}", partial(_document, "settings", data)
    for what, data in _OUTPUT.items():
        yield f"output: {what}", partial(_fold, data)
    for what, data in _TARS.items():
        yield f"tar: {what}", partial(_tar, data)
    yield "output: 100 MB through the recorder", partial(_recorded, "feed")
    yield "standard error: 100 MB without a line", partial(_recorded, "feed_stderr")
    yield "mask: a long value in a long text", _masked
    yield "mask: 5000 values", _many_secrets
    for kind in ("state", "salvage", "backup"):
        for size in (3 * GIB, 5 * GIB):
            yield f"{kind}: a bomb of {size // GIB} GiB", partial(_bomb, size, kind)
    yield "segment: a bomb of 3 GiB", _bomb_segment


EXTREMES: Mapping[str, Prepare] = dict(_rows())
