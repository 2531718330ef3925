"""Every reader of bytes from outside, with real bytes to begin with.

A reader is made in a folder of its own; what it is given lies there while it is read, and
must lie there unchanged afterwards.
"""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import msgspec

from packer_fork import config
from packer_fork.codec import segment, statefile
from packer_fork.codec.builds import encode_build
from packer_fork.codec.compression import decompress
from packer_fork.codec.lines import seal
from packer_fork.codec.witness import decode_witness
from packer_fork.errors import TemplateError
from packer_fork.inputs.cache import DigestCache
from packer_fork.locks import LockStatus
from packer_fork.manager import state_ref
from packer_fork.manager.build.log_files import LogFiles
from packer_fork.manager.state import backup, go_import, merge_results, restore, transfer
from packer_fork.manager.state_ref import StateRef
from packer_fork.model import Actor, Late, WorkItem
from packer_fork.packer import lines, outcome, outline
from packer_fork.packer.mask import Mask
from packer_fork.packer.sources import event_of
from packer_fork.stores.archive import history
from packer_fork.stores.local import lock_status
from packer_fork.stores.local.layout import Layout
from packer_fork.stores.local.queue import Ticket
from packer_fork.template import hcl_json, reader
from packer_fork.template.grammar import TooComplexError
from stress import mangle
from tests.conftest import EXAMPLES
from tests.support import local_states
from tests.support.local_store import holder, open_store
from tests.support.templates import FAST_AND_GATED, NULL_AND_FILE

Change = Callable[[random.Random, bytes], bytes]

_LOGS = Path(__file__).parents[1] / "tests" / "packer" / "logs"
_START = datetime(2026, 1, 1, tzinfo=UTC)
_SECRETS = ("hunter2-hunter2", "s3cret\nof two lines", 'quo"ted\\')

_JSON_TEMPLATE = b"""{
  "variable": {"a": {"default": "x", "sensitive": true}},
  "locals": {"b": "${var.a}-${file(\\"c.txt\\")}"},
  "source": {"null": {"n": {"communicator": "none"}}},
  "build": [{"sources": ["null.n"], "provisioner": [{"shell": {"script": "${local.b}.sh"}}]}]
}
"""
_LEGACY_TEMPLATE = b"""{
  "variables": {"a": "x", "t": "{{timestamp}}"}, "sensitive-variables": ["a"],
  "builders": [{"type": "null", "name": "n", "communicator": "none"}],
  "provisioners": [{"type": "shell-local", "script": "{{user `a`}}.sh", "only": ["n"]}],
  "post-processors": [["manifest", {"type": "checksum", "output": "o"}]]
}
"""
_INSPECTED = b"1,,template-builder,n,null\n"
_ANCESTOR = b"""{"version": 4, "serial": 17, "lineage": "3f2a", "builder_version": "0.9.1",
 "template": {"path": "t.pkr.hcl", "hash": "0123", "variables": {"count": 3, "none": null}},
 "builds": {"file.f": {"name": "file.f", "type": "file", "status": "complete",
   "instance": {"id": "i-0", "public_ip": "192.0.2.7", "ssh_port": 22, "more": [1, {"a": 2.5}]},
   "provisioners": [{"type": "shell", "status": "failed", "started_at": "0001-01-01T00:00:00Z"}],
   "artifacts": [{"id": "File", "files": ["out.txt"]}], "started_at": "2024-03-02T10:00:00+01:00"}}}
"""
_TOML = b"""workspace = "staging"
lock_timeout = "1h30m"
grace = 12.5
retries = 3
inputs = ["scripts/**", "files/*.txt"]
fail_fast = true

[artifact_check]
"mitchellh.amazonebs" = ["aws", "check"]
"""
_HCL_BITS = b"""
locals { made = [for f in fileset(path.root, "*.sh") : "${path.root}/${f}"] }
variable "password" {
  default   = "\\u00e4 $${x} ${upper("a")}"
  sensitive = true
}
variables { a = 1 }
build {
  name = "web"
  source "source.null.a" { name = "b" }
  dynamic "provisioner" {
    for_each = { for k, v in local.made : k => v if k != "x" }
    iterator = each
    labels   = ["file"]
    content {
      source  = each.value.name
      content = <<-EOT
        %{ for x in local.made ~}
        ${templatefile("t.tpl", { x = x })}
        %{ endfor ~}
      EOT
    }
  }
}
"""


class Reader(NamedTuple):
    """Real bytes, what is made of them, and what reads that: it may raise PackerForkError."""

    samples: tuple[bytes, ...]
    change: Change
    read: Callable[[bytes], object]


def _silent(_: object) -> None:
    """What is told while reading is of no interest."""


@contextlib.contextmanager
def _kept(path: Path, data: bytes) -> Iterator[Path]:
    """`data` at `path`, which nobody may have touched in the end."""
    path.write_bytes(data)
    try:
        yield path
    finally:
        assert path.read_bytes() == data, f"{path.name} was overwritten"


def place_in(folder: Path) -> StateRef:
    """The place of a template in `folder`, whose state is a small real one."""
    template = folder / "t.pkr.hcl"
    template.write_text(NULL_AND_FILE, encoding="utf-8")
    (folder / config.FILE_NAME).write_text("", encoding="utf-8")
    made = state_ref.resolve(
        state_ref.find_template(str(template)), {"state": str(folder / "states")}, {}, _silent
    )
    local_states.small(Path(made.store.location))
    return made


def _state(folder: Path, change: Change, *, acknowledged: bool) -> Reader:
    place = folder / "states" / "default"
    local_states.small(place)
    layout = Layout(place)
    plain = layout.state.read_bytes()
    if not acknowledged:
        layout.acked.unlink()

    def read(data: bytes) -> None:
        with _kept(layout.state, data):
            store = open_store(place)
            store.verify()
            store.recoverable()
            _take(place)
            list(local_states.changes(store))

    return Reader((plain,), change, read)


def _take(folder: Path) -> None:
    """As every command does that changes something."""
    found = open_store(folder).try_acquire(holder("read"))
    if not isinstance(found, LockStatus):
        found.close()


def _acked(folder: Path, change: Change) -> Reader:
    place = folder / "states" / "default"
    local_states.small(place)
    layout = Layout(place)

    def read(data: bytes) -> None:
        decode_witness(data)
        with _kept(layout.acked, data):
            open_store(place).recoverable()
            open_store(place).read()

    return Reader((layout.acked.read_bytes(),), change, read)


def _segment(folder: Path) -> Reader:
    place = folder / "states" / "default"
    local_states.small(place)
    path = local_states.segments(place)[1]

    def read(data: bytes) -> None:
        with _kept(path, data):
            store = open_store(place)
            store.verify()
            store.recoverable()
            list(local_states.changes(store))

    return Reader((path.read_bytes(),), mangle.mangled, read)


def _segment_brought(folder: Path) -> Reader:
    """One that somebody gave us, named for whatever it says."""
    place = folder / "states" / "default"
    local_states.small(place)
    layout = Layout(place)
    paths = local_states.segments(place)
    texts = [_lines_of(path.read_bytes()) for path in paths]

    def read(data: bytes) -> None:
        sealed = history.put(layout, data)
        segment.peek(data)
        history.read_summary(layout, sealed)
        history.read(layout, sealed)

    return Reader(tuple(texts), mangle.framed, read)


def _lines_of(data: bytes) -> bytes:
    start = data.find(b"\x28\xb5\x2f\xfd")
    return decompress(data[start:], 1 << 20)


def _summary(folder: Path) -> Reader:
    """The head of a segment, sealed anew around something else."""
    place = folder / "states" / "default"
    local_states.small(place)
    data = local_states.segments(place)[0].read_bytes()
    size = int.from_bytes(data[4:8], "little")

    def read(line: bytes) -> None:
        segment.peek(data[:4] + len(line).to_bytes(4, "little") + line + data[8 + size :])

    return Reader((data[8 : 8 + size],), mangle.resealed, read)


def _backup(folder: Path, kind: str) -> Reader:
    place = place_in(folder)
    path = folder / f"given.{kind}"
    if kind == "tar":
        backup.in_file(place, path)
    else:
        path.write_bytes(Path(place.store.backups()[0].path).read_bytes())

    def read(data: bytes) -> None:
        with _kept(path, data):
            restore.find(place, str(path))
            for each in backup.segments(path):
                segment.decode_unnamed(each, "given")

    return Reader((path.read_bytes(),), mangle.mangled, read)


def _lock(folder: Path) -> Reader:
    place = folder / "states" / "default"
    local_states.small(place)
    layout = Layout(place)

    def read(data: bytes) -> None:
        with _kept(layout.lock, data):
            store = open_store(place)
            lock_status.read_record(layout)
            store.status()
            store.left_alive()

    return Reader((layout.lock.read_bytes(),), mangle.mangled, read)


def _ticket(folder: Path) -> Reader:
    store = open_store(folder / "states" / "default")
    ticket = store.join_queue(holder("wait"))
    assert isinstance(ticket, Ticket)
    path = Layout(folder / "states" / "default").ticket(ticket.number)

    def read(data: bytes) -> None:
        with _kept(path, data):
            assert len(store.status().waiters) == 1
            assert ticket.place() == 0

    return Reader((path.read_bytes(),), mangle.mangled, read)


def _push(folder: Path) -> Reader:
    place = place_in(folder)
    path = folder / "pushed.json"

    def read(data: bytes) -> None:
        with _kept(path, data):
            pushed = transfer.read(path)
            found = transfer.compare(place, pushed, force=True)
            assert isinstance(found, restore.Replacement)
            statefile.decode_file(bytes(seal(pushed).data), "sealed")
            bytes.fromhex(pushed.key)

    return Reader((msgspec.json.encode(transfer.pull(place)),), mangle.mangled, read)


def _import(folder: Path) -> Reader:
    place = place_in(folder)
    path = folder / "builder-state.json"

    def read(data: bytes) -> None:
        with _kept(path, data):
            found = go_import.read(path)
            go_import.template_of(found, path)
            go_import.import_builds(place, found, path, _silent, environ={})

    return Reader((_ANCESTOR,), mangle.mangled, read)


def _late(folder: Path) -> Reader:
    place = place_in(folder)
    path = folder / "1-1-1.late.json"
    state = transfer.pull(place)
    run = state.last_run
    assert run is not None
    begun = outcome.begin(an_item(run.number), [outline.BuildOutline("b0", "null")])
    document = Late(lineage=state.lineage, run=run, item=begun.item, builds=begun.builds)

    def read(data: bytes) -> None:
        path.write_bytes(data)
        merge_results.merge(place, path, _silent, environ={})
        place.store.read()

    return Reader((msgspec.json.encode(document),), mangle.mangled, read)


def an_item(run: int = 1) -> WorkItem:
    by = Actor(user="u", host="h", pid=1)
    return WorkItem(run=run, number=1, token=1, started=_START, by=by)


def folded(pieces: list[bytes]) -> outcome.Outcome:
    """What a run comes to whose output arrives in these pieces."""
    names = ("null.fast", "null", "null: a", "web.file.out", "a,b")
    now = outcome.begin(an_item(), [outline.BuildOutline(name, "null") for name in names])
    rest = b""
    for piece in pieces:
        whole, rest = lines.split(rest + piece)
        for line in filter(None, map(lines.parse, whole)):
            now = outcome.apply(now, event_of(now.item.sources, line))
    return outcome.conclude(now, at=_START, exit_code=0, ended="normal")


def _log(_: Path) -> Reader:
    samples = tuple(path.read_bytes() for path in sorted(_LOGS.iterdir()))

    def read(data: bytes) -> None:
        chance = random.Random(data)
        after = folded([data])
        pieces = []
        while data:
            size = chance.choice((1, 100, 5000, 1 << 20))
            pieces.append(data[:size])
            data = data[size:]
        assert folded([*pieces[:50], b"".join(pieces[50:])]) == after
        assert all(build.status.is_final for build in after.builds.values())
        for build in after.builds.values():
            encode_build(build)
        msgspec.json.decode(msgspec.json.encode(after.item), type=WorkItem)

    return Reader(samples, mangle.mangled, read)


def _mask(_: Path) -> Reader:
    mask = Mask(_SECRETS)
    logs = b"".join(path.read_bytes() for path in sorted(_LOGS.iterdir()))
    sample = logs.replace(b"one", b"x hunter2-hunter2 y")

    def read(data: bytes) -> None:
        for raw in lines.split(data)[0]:
            mask.line(raw)
            assert _SECRETS[0] not in mask.text(raw.decode("utf-8", "replace"))

    return Reader((sample,), mangle.mangled, read)


def _hcl(folder: Path) -> Reader:
    path = folder / "t.pkr.hcl"
    demo = (EXAMPLES / "demo" / "demo.pkr.hcl").read_bytes()

    def read(data: bytes) -> None:
        with _kept(path, data):
            template = reader.read(str(path), [str(path)])
            try:
                reader.assignments(template.variable_files[0])
            except TooComplexError as error:  # who calls it makes a sentence of it
                raise TemplateError("It takes too long to read.") from error
            outline.outline("1,,ui,say,> builds:\\n\\n  > web:\\n\\n    sources:\\n", template)

    return Reader((demo, _HCL_BITS, FAST_AND_GATED.encode()), mangle.mangled, read)


def _json_templates(folder: Path) -> Reader:
    path = folder / "t.json"

    def read(data: bytes) -> None:
        with _kept(path, data):
            hcl_json.parse(data)
            template = reader.read(str(path), [str(path)])
            reader.assignments(template.variable_files[0])
            outline.outline(_INSPECTED.decode(), template)

    return Reader((_JSON_TEMPLATE, _LEGACY_TEMPLATE), mangle.mangled, read)


def _inspected(folder: Path) -> Reader:
    """What `packer inspect` and the template say together."""
    path = folder / "t.json"
    path.write_bytes(_LEGACY_TEMPLATE)
    template = reader.read(str(path))
    tree = (
        rb"1,,ui,say,> builds:\n\n  > web:\n\n    sources:\n\n      null.a\n\n    provisioners:\n"
    )

    def read(data: bytes) -> None:
        outline.outline(data.decode("utf-8", "replace"), template)

    return Reader((_INSPECTED, tree + rb"\n      shell-local\n"), mangle.mangled, read)


def _toml(folder: Path) -> Reader:
    path = folder / config.FILE_NAME

    def read(data: bytes) -> None:
        with _kept(path, data):
            config.load(folder, {}, {})

    return Reader((_TOML,), mangle.mangled, read)


def _hashes(folder: Path) -> Reader:
    """Whatever it holds, files are hashed."""
    path, file = folder / "hashes", folder / "input"
    file.write_bytes(b"content")
    os.utime(file, (1, 1))
    cache = DigestCache(path)
    digest = cache.digest(str(file))
    known = {str(file): (7, 10**9, 1, 1, digest), "/gone": (1, 2, 3, 4, "0" * 64)}

    def read(data: bytes) -> None:
        with _kept(path, data):
            assert DigestCache(path).digest(str(file)) == digest

    return Reader((msgspec.json.encode(known),), mangle.mangled, read)


def _secrets(folder: Path) -> Reader:
    files = LogFiles(folder, "1-1")

    def read(data: bytes) -> None:
        with _kept(files.secrets, data):
            files.kept_secrets()

    return Reader((msgspec.json.encode(_SECRETS),), mangle.mangled, read)


READERS: Mapping[str, Callable[[Path], Reader]] = {
    "state": lambda folder: _state(folder, mangle.mangled, acknowledged=True),
    "state, unwitnessed": lambda folder: _state(folder, mangle.mangled, acknowledged=False),
    "state, sealed anew": lambda folder: _state(folder, mangle.resealed, acknowledged=False),
    "state, compressed": lambda folder: _state(folder, mangle.framed, acknowledged=False),
    "acked": lambda folder: _acked(folder, mangle.mangled),
    "acked, sealed anew": lambda folder: _acked(folder, mangle.witnessed),
    "segment": _segment,
    "segment brought here": _segment_brought,
    "summary": _summary,
    "backup": lambda folder: _backup(folder, "zst"),
    "bundle": lambda folder: _backup(folder, "tar"),
    "lock": _lock,
    "ticket": _ticket,
    "pushed document": _push,
    "imported state": _import,
    "late results": _late,
    "output": _log,
    "mask": _mask,
    "hcl": _hcl,
    "json templates": _json_templates,
    "inspected": _inspected,
    "settings": _toml,
    "hashes": _hashes,
    "secrets": _secrets,
}
