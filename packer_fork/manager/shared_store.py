"""Opening states on servers: which servers, the keys there, and the local folder beside them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

from msgspec import structs

from packer_fork import config
from packer_fork.errors import UsageError
from packer_fork.model import Project
from packer_fork.stores.access import (
    Access,
    Address,
    BucketAddress,
    is_bucket,
    parse_address,
    parse_bucket_address,
)
from packer_fork.stores.circuit_breaker import CircuitBreaker
from packer_fork.stores.local.mutex import Complain
from packer_fork.stores.shared.companion import Companion
from packer_fork.stores.shared.keys import Keys
from packer_fork.stores.shared.store import SharedStore, Terms

_INDEX = "@states"
"""The index of a project's states; no template is escaped to that name."""


def open_store(
    settings: config.Settings,
    key: str,
    identity: str,
    *,
    local: Path,
    root: Path,
    complain: Complain,
    owner: Project | None,
) -> SharedStore:
    """The state at `key`, "TEMPLATE/WORKSPACE"; `local` is its folder here, below `root`.

    `owner`: the project that uses it; None asks for no project.

    Sends no request yet. Raises UsageError.
    """
    return SharedStore(
        _keys(settings, key, complain),
        _renewals(settings, key),
        Companion(local, root=root, complain=complain, group=settings.shared_with_group),
        template=identity,
        workspace=key.rpartition("/")[2],
        terms=Terms(ttl=settings.lock_ttl, surely=settings.on_lock_lost == "strict", project=owner),
        register=lambda: _keys(settings, _INDEX).put(key, identity.encode()),
    )


def states(settings: config.Settings) -> Iterator[tuple[str, str]]:
    """Template and workspace of each state of the project. Raises UsageError, StoreError."""
    for item in _keys(settings, _INDEX).items(""):
        yield item.value.decode("utf-8", "replace"), item.key.rpartition("/")[2]


def local_name(settings: config.Settings) -> str:
    """The name of a project's local folder, in whatever order its servers are listed.

    Raises UsageError.
    """
    address = _address(settings)
    if isinstance(address, BucketAddress):
        name = f"{address.endpoint} {address}/{settings.project}"
    else:
        servers = ",".join(sorted(map(str, address.endpoints)))
        name = f"{address.kind}://{servers}/{address.prefix}/{settings.project}"
    return sha256(name.encode()).hexdigest()[:16]


def _address(settings: config.Settings) -> Address | BucketAddress:
    """Raises UsageError for the URL of no store, or without the project's name."""
    url = settings.state
    address = parse_bucket_address(url, os.environ) if is_bucket(url) else parse_address(url)
    if not settings.project:
        raise UsageError(
            "a shared store needs the name of the project, below which its states are kept",
            hint='set project = "NAME" in packer-fork.toml, or PACKER_FORK_PROJECT',
        )
    return address


def circuit_breaker(settings: config.Settings) -> CircuitBreaker:
    """The circuit breaker of the cluster or bucket, shared by all processes of this user."""
    address = _address(settings)
    if isinstance(address, BucketAddress):
        at = f" at {address.endpoint}" if address.endpoint else ""
        return CircuitBreaker(f"s3://{address.bucket}{at}")
    return CircuitBreaker(str(structs.replace(address, prefix="")))


def _keys(settings: config.Settings, path: str, complain: Complain | None = None) -> Keys:
    access = structs.replace(_access(settings), breaker=circuit_breaker(settings), warn=complain)
    return _client(settings, path, access)


def _renewals(settings: config.Settings, path: str) -> Keys:
    """A client that renews leases as soon as the servers are back, even if the breaker is open.

    So a renewal closes the breaker. A server that hangs is left for the next one before the
    lease ends.
    """
    access, longest = _access(settings), settings.lock_ttl / 6
    hurried = structs.replace(
        access,
        retry_timeout=0,
        connect_timeout=min(access.connect_timeout, longest),
        request_timeout=min(access.request_timeout, longest),
        breaker=_ReportSuccess(circuit_breaker(settings)),
    )
    return _client(settings, path, hurried)


class _ReportSuccess:
    """Admits every attempt, and reports only successes to the breaker."""

    def __init__(self, breaker: CircuitBreaker) -> None:
        self._breaker = breaker

    def before(self) -> None:
        """Nothing holds a renewal up."""

    def succeeded(self) -> None:
        self._breaker.succeeded()

    def failed(self, reason: str) -> None:
        """Others will find out."""


def _access(settings: config.Settings) -> Access:
    return Access(
        username=settings.store_username,
        password=settings.store_password,
        token=settings.store_token,
        ca=settings.store_ca,
        certificate=settings.store_certificate,
        key=settings.store_key,
        retry_timeout=settings.store_patience,
    )


def _client(settings: config.Settings, path: str, access: Access) -> Keys:
    address = _address(settings)
    own = structs.replace(address, prefix=f"{address.prefix}/{settings.project}/{path}")
    if isinstance(own, BucketAddress):
        return _bucket_keys(own, access)
    if own.kind == "etcd":
        from packer_fork.stores.etcd import EtcdKeys

        return EtcdKeys(own, access)
    from packer_fork.stores.consul import ConsulKeys

    return ConsulKeys(own, access)


def _bucket_keys(address: BucketAddress, access: Access) -> Keys:
    """Raises UsageError without the library for buckets, or for a profile that is unusable."""
    try:
        from packer_fork.stores.bucket import Bucket
    except ImportError as error:
        raise UsageError(
            f"the state {address} needs the library obstore, which is not installed",
            hint="pip install 'packer-fork[objects]'",
        ) from error
    from packer_fork.stores.objects import ObjectKeys
    from packer_fork.stores.retry import Retry

    bucket = Bucket(
        address.bucket,
        address.prefix,
        endpoint=address.endpoint,
        connect_timeout=access.connect_timeout,
        request_timeout=access.request_timeout,
    )
    return ObjectKeys(bucket, Retry(access.retry_timeout, access.breaker, access.warn))
