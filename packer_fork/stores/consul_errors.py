"""Consul's error responses, and the messages for users.

Its HTTP API (https://developer.hashicorp.com/consul/api-docs) gives most reasons as text only.
An error that another server, or a later attempt, may not have is a `TransportError`; any other
is the answer of the whole cluster.
"""

from __future__ import annotations

import re

import msgspec
from msgspec import Struct

from packer_fork.errors import StoreError
from packer_fork.malformed import MALFORMED
from packer_fork.stores.access import Address
from packer_fork.stores.http_client import Response
from packer_fork.stores.transport_error import TransportError
from packer_fork.terminal import clean

_MOST_SHOWN = 200

_CONFLICT = re.compile(
    r"""key ".*" (exists|doesn't exist)"""
    r"|failed (index|session) check for key .*"
    r"|failed to check (index|session), key .* doesn't exist"
    r"|failed to lock key .*, lock is already held"
    r'|invalid session ".*"',
    re.DOTALL,
)
"""Of a transaction whose conditions do not hold; a lease that has ended holds nothing."""

_INVALID = ("Invalid Session TTL", "Missing node registration")
"""Of a request that is refused as such, although with status 500."""


class Refusal(Struct, rename="pascal"):
    """Which operation of a transaction could not be done, counted from 0, and why."""

    op_index: int
    what: str


class Refused(Struct, rename="pascal"):
    """The body of an answer 409."""

    errors: list[Refusal]


def judge(response: Response) -> TransportError | None:
    """Why this server did not carry out the request; None if the whole cluster refuses it."""
    said, status = _text(response), response.status
    if status == 404 and not _is_of_consul(response):
        return TransportError(
            "is no Consul server",
            hint="Look at host and port: Consul's HTTP API is at 8500, with TLS at 8501.",
            permanent=True,
        )
    if "No cluster leader" in said or "node is not the leader" in said:
        return TransportError(
            "has no leader now",
            hint="More than half of Consul's servers must run and reach each other.",
        )
    if "No known Consul servers" in said:
        return TransportError(
            "is an agent that knows no server",
            hint="Look whether it has joined the cluster (`consul members`).",
        )
    if status == 429 or "rate limit" in said:
        return TransportError(
            f"takes no more now ({said})",
            hint="Look at `limits` in the configuration of the agents and of the servers.",
        )
    if status >= 500 and not said.startswith(_INVALID):
        return TransportError(f"fails ({said or status})", outcome_unknown=True)
    return None


def refusal(response: Response, address: Address, token: str) -> StoreError | None:
    """What the cluster refuses; None if it obeyed, or if only conditions do not hold."""
    match response.status:
        case 200 | 404:
            what = None
        case 409:
            what = _no_conflict(response)
        case status:
            what = _text(response) or f"status {status}"
    return None if what is None else _sentence(what, address, token)


def _sentence(what: str, address: Address, token: str) -> StoreError:
    place, whom = f"Consul at {address}", "this token" if token else "anybody without a token"
    if what.startswith("ACL not found"):
        return StoreError(f"{place} does not know this token.", hint="Correct the token.")
    if what.startswith("Permission denied"):
        return StoreError(
            f"{place} does not let {whom} have sessions, or read and write keys below"
            f" {address.prefix}/.",
            hint=rules(address),
        )
    if what.startswith("Invalid Session TTL"):
        return StoreError(
            f"{place} has no leases of this length ({what}).",
            hint="Set `lock_ttl` to 10 s at the least, or Consul's session_ttl_min to less.",
        )
    if "too large" in what:
        return StoreError(
            f"{place} does not take a request of this size ({what}).",
            hint="Raise kv_max_value_size and txn_max_req_len to the default of 512 KiB or more.",
        )
    if what.startswith("unknown KV verb"):
        return StoreError(f"{place} is too old ({what}).", hint="At least 1.8 is needed.")
    return StoreError(f"{place} refuses ({what}).", hint="Look at the logs of its agents.")


def rules(address: Address) -> str:
    """The access rules that a token needs, as a sentence."""
    return (
        f'A token with the rules key_prefix "{address.prefix}/" {{ policy = "write" }}'
        ' and session_prefix "" { policy = "write" } helps.'
    )


def _is_of_consul(response: Response) -> bool:
    """Of an answer 404: that a key does not exist, or a session."""
    return "x-consul-index" in response.headers or response.body.startswith(b"Session id ")


def _no_conflict(response: Response) -> str | None:
    """Of an answer 409: what is the matter, if it is not just that conditions do not hold."""
    try:
        refusals = msgspec.json.decode(response.body, type=Refused).errors
    except MALFORMED:
        return _text(response)
    others = (each.what for each in refusals if not _CONFLICT.fullmatch(each.what))
    other = next(others, None)
    return other if other is None else _shown(other)


def _text(response: Response) -> str:
    return "" if response.status == 200 else _shown(response.body[:1000].decode(errors="replace"))


def _shown(said: str) -> str:
    return " ".join(clean(said).split())[:_MOST_SHOWN]
