"""From settings to a shared store: its servers, its keys there, and its folder here."""

from __future__ import annotations

from collections.abc import Iterator

from msgspec import structs

from packer_fork import config
from packer_fork.manager.locate import StateFolder
from packer_fork.manager.servers import address_of, circuit_breaker
from packer_fork.stores.access import Access
from packer_fork.stores.circuit_breaker import CircuitBreaker
from packer_fork.stores.local.mutex import Complain
from packer_fork.stores.shared.companion import Companion
from packer_fork.stores.shared.keys import Keys
from packer_fork.stores.shared.store import SharedStore, Terms

_INDEX = "@states"
"""Where in a project it stands which states there are; no template is escaped to that."""


def store(
    here: StateFolder, identity: str, settings: config.Settings, complain: Complain
) -> SharedStore:
    """Nothing is asked of the servers yet. Raises UsageError."""
    path = f"{here.template}/{here.workspace}"
    return SharedStore(
        _keys(settings, path, complain),
        _renewals(settings, path),
        Companion(here.folder, root=here.root, complain=complain),
        template=identity,
        workspace=here.workspace,
        terms=Terms(ttl=settings.lock_ttl, surely=settings.on_lock_lost == "strict"),
        register=lambda: _keys(settings, _INDEX).put(path, identity.encode()),
    )


def states(settings: config.Settings) -> Iterator[tuple[str, str]]:
    """Template and workspace of each state of the project. Raises UsageError, StoreError."""
    for item in _keys(settings, _INDEX).items(""):
        yield item.value.decode("utf-8", "replace"), item.key.rpartition("/")[2]


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
    address = address_of(settings)
    own = structs.replace(address, prefix=f"{address.prefix}/{settings.project}/{path}")
    if address.kind == "etcd":
        from packer_fork.stores.etcd import EtcdKeys

        return EtcdKeys(own, access)
    from packer_fork.stores.consul import ConsulKeys

    return ConsulKeys(own, access)
