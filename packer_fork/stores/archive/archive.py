"""What every store keeps: state, history and backups, over its files and its reader."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from packer_fork.stores.archive import ownership

if TYPE_CHECKING:
    from packer_fork.codec.statefile import StateFile
    from packer_fork.model import Project, State, Template
    from packer_fork.responses import Backup, RecoverableState, Verified
    from packer_fork.stores.archive.files import Files, Reader
    from packer_fork.stores.base import SegmentRange


class Archive:
    """The reading half of ``stores.base.Store``; the contract is there."""

    _project: Project | None

    @property
    def _files(self) -> Files:
        raise NotImplementedError

    @property
    def _reader(self) -> Reader:
        raise NotImplementedError

    def _readable(self) -> contextlib.AbstractContextManager[None]:
        """Turns an OSError while reading into a StoreError, where files are on a disk."""
        return contextlib.nullcontext()

    def read(self) -> State | None:
        with self._readable():
            file = self._read_file()
        return file.state if file else None

    def _read_file(self) -> StateFile | None:
        file = self._reader.read()
        if file is not None:
            ownership.check(file.state.template, self._project, self._files.location)
        return file

    def claimed(self, template: Template) -> Template:
        return ownership.claimed(template, self._project)

    def history(self) -> Iterator[SegmentRange]:
        from packer_fork.stores.archive import segment_ranges

        with self._readable():
            newest = self._read_file()
            yield from segment_ranges.segment_ranges(self._files, self._reader, newest)

    def segments(self, state: State) -> Iterator[tuple[str, bytes]]:
        from packer_fork.stores.archive import history

        with self._readable():
            for sealed in history.chain(self._files, state):
                yield sealed.segment, history.read_bytes(self._files, sealed)

    def backups(self) -> tuple[Backup, ...]:
        from packer_fork.stores.archive import backups

        with self._readable():
            return backups.found(self._files)

    def read_backup(self, path: str) -> bytes | None:
        from packer_fork.stores.archive import backups

        with self._readable():
            return backups.bytes_of(self._files, path)

    def verify(self) -> Verified:
        from packer_fork.stores.archive import verify

        with self._readable():
            return verify.verify(self._files, self._reader)

    def recoverable(self) -> RecoverableState:
        from packer_fork.stores.archive import recoverable

        with self._readable():
            return recoverable.find(self._files, self._reader)
