"""Stores of each kind, opened as by processes on one machine or on several."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from msgspec import Struct, field, structs

from packer_fork.stores.access import Access, parse_address
from packer_fork.stores.base import Store
from packer_fork.stores.bucket import Bucket
from packer_fork.stores.consul import ConsulKeys
from packer_fork.stores.etcd import EtcdKeys
from packer_fork.stores.local.store import LocalStore
from packer_fork.stores.objects import ObjectKeys
from packer_fork.stores.retry import Retry
from packer_fork.stores.shared.companion import Companion
from packer_fork.stores.shared.keys import Keys
from packer_fork.stores.shared.store import SharedStore, Terms
from tests.support.object_server import POLL, object_keys
from tests.support.servers import BUCKET

TTL = 10.0
"""Seconds; no test waits for the end of such a lease."""

S3_MARGIN = 2.0
"""Seconds of grace of a lease there: times are of whole seconds."""

USUAL = Access(retry_timeout=10)

HASTY = Access(connect_timeout=0.5, request_timeout=0.5, retry_timeout=0)
"""For whoever soon learns that the servers are away."""


def connect(kind: str, endpoints: Sequence[str], prefix: str, access: Access) -> Keys:
    """A client of the servers there: etcd, Consul, an `ObjectServer`, or S3 ("s3")."""
    if kind == "s3":
        return bucket_keys(f"http://{endpoints[0]}", prefix, access)
    if kind == "objects":
        return object_keys(endpoints, prefix, access)
    address = parse_address(f"{kind}://{','.join(endpoints)}/{prefix}")
    client: type[EtcdKeys | ConsulKeys] = EtcdKeys if kind == "etcd" else ConsulKeys
    return client(address, access)


def bucket_keys(endpoint: str, prefix: str, access: Access) -> ObjectKeys:
    bucket = Bucket(
        BUCKET,
        prefix,
        endpoint=endpoint,
        connect_timeout=access.connect_timeout,
        request_timeout=access.request_timeout,
    )
    retry = Retry(access.retry_timeout, access.breaker, access.warn)
    return ObjectKeys(bucket, retry, margin=S3_MARGIN, poll=POLL)


class Ground(Struct, frozen=True):
    """Where the states of one test are. ``endpoints`` is empty for the local store.

    All that it opened is let go of by `close`, after which more may be opened.
    """

    kind: str
    folder: Path
    endpoints: tuple[str, ...] = ()
    prefix: str = ""
    opened: list[Keys] = field(default_factory=list)

    def close(self) -> None:
        while self.opened:
            self.opened.pop().close()

    def keys(
        self,
        name: str = "s",
        *,
        endpoints: tuple[str, ...] = (),
        access: Access = USUAL,
    ) -> Keys:
        prefix = f"{self.prefix}/{name}"
        self.opened.append(connect(self.kind, endpoints or self.endpoints, prefix, access))
        return self.opened[-1]

    def open(
        self,
        name: str = "s",
        *,
        machine: str = "here",
        ttl: float = TTL,
        endpoints: tuple[str, ...] = (),
        surely: bool = False,
        access: Access = USUAL,
    ) -> Store:
        """The state `name`; a shared store as seen from `machine`, with a folder of its own."""
        root = self.folder / (machine if self.endpoints else "local")
        folder = root / name / "default"
        if not self.endpoints:
            return LocalStore(folder, root=root, template=name, workspace="default", complain=print)
        once = structs.replace(access, retry_timeout=0)
        return SharedStore(
            self.keys(name, endpoints=endpoints, access=access),
            self.keys(name, endpoints=endpoints, access=once),
            Companion(folder, root=root, complain=print),
            template=name,
            workspace="default",
            terms=Terms(ttl=ttl, surely=surely),
            register=lambda: None,
        )
