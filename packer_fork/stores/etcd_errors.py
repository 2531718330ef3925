"""etcd's error responses, and the messages for users.

Errors are JSON with gRPC's code and a sentence; in a stream they are one level deeper
(https://etcd.io/docs/v3.4/dev-guide/api_grpc_gateway). An error that another server, or a later
attempt, may not have is a `TransportError`; any other is a `Fault`, the whole cluster's answer.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec
from msgspec import Struct

from packer_fork.errors import StoreError
from packer_fork.malformed import MALFORMED
from packer_fork.stores.access import Address
from packer_fork.stores.http_client import Response
from packer_fork.stores.transport_error import TransportError, printable
from packer_fork.terminal import clean

OLDEST = (3, 4)
"""The first version whose gateway is at /v3 and that is still looked after."""

Look = Callable[[str], Response]
"""Reads another path of the server that answered. Raises TransportError."""

_LOGIN_AGAIN = ("invalid auth token", "revision of auth store is old", "user name is empty")
_NO_LOGIN = "authentication is not enabled"
_NO_LEASE = "requested lease not found"
_NAMED_CERTIFICATE = b"CommonName of client sending a request against gateway"

_UNTOLD = 0
_IN_A_WHILE = frozenset({1, 2, 4, 10, 13, 14})
"""gRPC: cancelled, unknown, deadline exceeded, aborted, internal, unavailable."""

_NOT_BEGUN = ("no leader", "too many requests")
_NO_QUORUM = ("no leader", "request timed out")


class Fault(Struct, frozen=True):
    """``code``: gRPC's."""

    code: int
    message: str

    @property
    def is_login_over(self) -> bool:
        return self.message.endswith(_LOGIN_AGAIN)

    @property
    def is_login_needless(self) -> bool:
        return self.message.endswith(_NO_LOGIN)

    @property
    def is_lease_gone(self) -> bool:
        return self.message.endswith(_NO_LEASE)


class _Nested(Struct):
    message: str = ""
    grpc_code: int = 0


class _Body(Struct):
    error: str | _Nested
    code: int = 0


class _Version(Struct):
    etcdserver: str


_body = msgspec.json.Decoder(_Body)
_version = msgspec.json.Decoder(_Version)


def fault_in(body: bytes) -> Fault | None:
    """The error in a response or in a line of a stream, if there is one."""
    try:
        found = _body.decode(body)
    except MALFORMED:
        return None
    if isinstance(found.error, str):
        return Fault(found.code, printable(found.error))
    return Fault(found.error.grpc_code, printable(found.error.message))


def fault_of_watch(reason: str) -> Fault:
    """Why a watch was cancelled: a text like "rpc error: code = Unavailable desc = ..."."""
    return Fault(_UNTOLD, printable(reason.rpartition(" desc = ")[2]))


def judge(response: Response, look: Look) -> TransportError | None:
    """Why this server did not carry out the request; None if the whole cluster refuses it."""
    if response.status == 200:
        return None
    fault = fault_in(response.body)
    if fault is not None and fault.message != "Not Found":
        return unavailable(fault)
    if response.status == 404:
        return _elsewhere(look)
    if _NAMED_CERTIFICATE in response.body:
        return TransportError(
            "takes no client certificate with a common name (CN) where users have passwords",
            hint="Use a client certificate whose subject has no CN, and a user with a password.",
            permanent=True,
        )
    if response.status >= 500:
        return TransportError(f"answers with status {response.status}", outcome_unknown=True)
    return _no_etcd(f" (status {response.status})")


def unavailable(fault: Fault) -> TransportError | None:
    """The error, if another server or a later attempt may not have it."""
    what = fault.message.removeprefix("etcdserver: ")
    unknown = not what.startswith(_NOT_BEGUN)
    if unknown and fault.code not in _IN_A_WHILE:
        return None
    if what.startswith(_NO_QUORUM):
        return TransportError(
            f"has too few other servers to agree with ({what})", outcome_unknown=unknown
        )
    return TransportError(f"cannot do it now ({what})", outcome_unknown=unknown)


def refusal(fault: Fault, address: Address, user: str) -> StoreError:
    """The message for what the cluster refuses."""
    what = fault.message.removeprefix("etcdserver: ").removeprefix("mvcc: ")
    whom = f"user {clean(user)!r}" if user else "anybody without a user"
    place = f"etcd at {address}"
    if what.startswith("user name is empty"):
        return StoreError(f"{place} wants a user and a password.", hint="Set both.")
    if what.startswith("authentication failed"):
        return StoreError(
            f"{place} does not let {whom} in.", hint="Correct the user or the password."
        )
    if what.startswith("permission denied"):
        return StoreError(
            f"{place} does not let {whom} read and write keys below {address.prefix}/.",
            hint=f"etcdctl role grant-permission ROLE readwrite --prefix {address.prefix}/ helps.",
        )
    if what.startswith("database space exceeded"):
        return StoreError(
            f"{place} has no space left.",
            hint="Compact and defragment it or raise --quota-backend-bytes, then disarm the alarm.",
        )
    if what.startswith(("request is too large", "grpc: received message larger")):
        return StoreError(
            f"{place} does not take a request of this size.",
            hint="Raise its --max-request-bytes to the default of 1.5 MiB or more.",
        )
    return StoreError(f"{place} refuses ({what}).", hint="Look at the servers' logs.")


def _elsewhere(look: Look) -> TransportError:
    """Why a server does not know /v3."""
    try:
        version = _version.decode(look("/version").body).etcdserver
        major, minor = map(int, version.split(".")[:2])
    except (*MALFORMED, ValueError):
        return _no_etcd("")
    if (major, minor) < OLDEST:
        return TransportError(
            f"runs etcd {printable(version)}, which is too old",
            hint=f"At least {'.'.join(map(str, OLDEST))} is needed.",
            permanent=True,
        )
    if look("/members").status == 200:
        return TransportError(
            "is where etcd's servers talk to each other",
            hint="Use the port for clients, which is 2379 unless somebody chose another.",
            permanent=True,
        )
    return TransportError(
        "has its JSON gateway disabled",
        hint="Start etcd without --enable-grpc-gateway=false.",
        permanent=True,
    )


def _no_etcd(why: str) -> TransportError:
    return TransportError(f"is no etcd server{why}", hint="Look at host and port.", permanent=True)
