"""Where the servers of a shared store are, and what they are asked with.

A URL says where: ``etcd://h1:2379,h2:2379/images``, with etcds, consul, consuls for TLS
and for Consul, or ``s3://bucket/images``. It is stored and shown, so that no secret may be in
it; those stand in `Access`, or in the environment for a bucket.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from msgspec import Struct

from packer_fork.errors import UsageError
from packer_fork.stores.retry import Breaker
from packer_fork.terminal import clean

PREFIX = "packer-fork"
"""Below which keys stand if the URL names no path."""

_PORTS = {"etcd": 2379, "consul": 8500}
_PRODUCTS = {"etcd": "etcd", "consul": "Consul"}
_URL = re.compile(r"(?P<scheme>[a-z0-9]+)://(?P<places>[^/]*)(?P<path>/.*)?")
_PLACE = re.compile(
    r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_][A-Za-z0-9_.-]*)(:(?P<port>[0-9]{1,5}))?"
)
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{1,62}")
_ENDPOINT = re.compile(rf"https?://{_PLACE.pattern}(/[A-Za-z0-9._~/-]*)?")
_PATH = re.compile(r"[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*")
_EXAMPLE = (
    "Write it like etcd://host1:2379,host2:2379/path, consuls://host:8501/path or s3://bucket/path."
)


class Endpoint(Struct, frozen=True):
    """One server; an IPv6 address without its brackets."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Address(Struct, frozen=True):
    """A cluster, and the prefix of the keys there. ``kind``: "etcd" or "consul"."""

    kind: str
    tls: bool
    endpoints: tuple[Endpoint, ...]
    prefix: str

    @property
    def product(self) -> str:
        """What the servers are, for messages."""
        return _PRODUCTS[self.kind]

    @property
    def scheme(self) -> str:
        return f"{self.kind}s" if self.tls else self.kind

    def __str__(self) -> str:
        places = ",".join(map(str, self.endpoints))
        return f"{self.scheme}://{places}/{self.prefix}"


class BucketAddress(Struct, frozen=True):
    """A bucket of S3, and the prefix of the keys there. ``endpoint``: URL, "" for AWS."""

    bucket: str
    prefix: str
    endpoint: str = ""

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}"


class Access(Struct, frozen=True, kw_only=True):
    """How the servers are asked. ``ca``, ``certificate`` and ``key`` are paths of PEM files.

    All times are seconds: ``connect_timeout`` for a connection, TLS included;
    ``request_timeout`` for an answer, more than the 7 s after which etcd itself gives up;
    ``retry_timeout``, ``breaker`` and ``warn`` as `Retry` takes them.
    """

    username: str = ""
    password: str = ""
    token: str = ""
    ca: str = ""
    certificate: str = ""
    key: str = ""
    connect_timeout: float = 3.0
    request_timeout: float = 10.0
    retry_timeout: float = 20.0
    breaker: Breaker | None = None
    warn: Callable[[str], None] | None = None

    def __repr__(self) -> str:
        """Secrets are told as there or not: this may get into a traceback."""
        told = {name: getattr(self, name) for name in self.__struct_fields__}
        told |= {name: "***" for name in ("password", "token") if told[name]}
        return f"Access({', '.join(f'{name}={value!r}' for name, value in told.items())})"


def is_bucket(url: str) -> bool:
    return url.startswith("s3://")


def _is_cluster(text: str) -> bool:
    return text.partition("://")[0] in {f"{kind}{s}" for kind in _PORTS for s in ("", "s")}


def parse_address(url: str) -> Address:
    """What `url` says. Raises UsageError, which never shows what could be a secret."""
    _refuse_secrets(url)
    match = _URL.fullmatch(url)
    if match is None or not _is_cluster(url):
        raise UsageError(
            f"{clean(url)!r} is not the URL of a store: its beginning is not one of etcd://,"
            " etcds://, consul://, consuls:// and s3://.",
            hint=_EXAMPLE,
        )
    kind = next(kind for kind in _PORTS if match["scheme"] in (kind, f"{kind}s"))
    endpoints = (_endpoint(place, url, _PORTS[kind]) for place in match["places"].split(","))
    return Address(
        kind, match["scheme"] != kind, tuple(dict.fromkeys(endpoints)), _prefix(match["path"], url)
    )


def parse_bucket_address(url: str, environ: Mapping[str, str]) -> BucketAddress:
    """The bucket of an ``s3://`` URL, at the endpoint that `environ` names as for other tools.

    Raises UsageError, which never shows what could be a secret.
    """
    _refuse_secrets(url)
    match = _URL.fullmatch(url)
    if match is None or not _BUCKET.fullmatch(match["places"]):
        raise UsageError(f"{clean(url)!r} names no bucket.", hint="Write it like s3://bucket/path.")
    names = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
    endpoint = next((environ[name] for name in names if environ.get(name)), "")
    if "@" in endpoint:
        raise UsageError(
            f"The endpoint of {clean(url)} has credentials in it.",
            hint="Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY instead.",
        )
    if endpoint and not _ENDPOINT.fullmatch(endpoint):
        raise UsageError(
            f"The endpoint of {clean(url)} is not the URL of a server.",
            hint="Write AWS_ENDPOINT_URL like https://host:9000.",
        )
    return BucketAddress(match["places"], _prefix(match["path"], url), endpoint.rstrip("/"))


def _refuse_secrets(url: str) -> None:
    if "@" in url:
        raise UsageError(
            "The store's URL has credentials in it, where everybody sees them.",
            hint="Leave them out of the URL; user, password and token have settings of their own.",
        )
    if "?" in url or "#" in url:
        raise UsageError(
            "The store's URL has a query or a fragment.",
            hint="Leave out what begins with '?' or '#'; all else has settings of its own.",
        )


def _endpoint(place: str, url: str, port: int) -> Endpoint:
    match = _PLACE.fullmatch(place)
    port = int((match and match["port"]) or port)
    if match is None or not 0 < port < 1 << 16 or not _is_host(match["host"]):
        raise UsageError(
            f"{clean(url)!r}: {clean(place)!r} is no host, with or without a port.",
            hint=f"{_EXAMPLE} An IPv6 address stands in brackets.",
        )
    return Endpoint(match["host"].strip("[]").lower(), port)


def _is_host(host: str) -> bool:
    if not host.startswith("["):
        return True
    import ipaddress

    try:
        ipaddress.IPv6Address(host.strip("[]"))
    except ValueError:
        return False
    return True


def _prefix(path: str | None, url: str) -> str:
    prefix = (path or "").strip("/")
    if not prefix:
        return PREFIX
    if not _PATH.fullmatch(prefix) or {".", ".."} & set(prefix.split("/")):
        raise UsageError(
            f"{clean(url)!r}: the path {clean(prefix)!r} is no prefix of keys.",
            hint="Use letters, digits, '.', '_' and '-' in each part, '/' between two.",
        )
    return prefix
