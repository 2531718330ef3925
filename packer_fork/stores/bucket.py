"""An object store by `obstore`: a bucket of S3 or what speaks S3.

obstore must not retry: it would turn a success whose response was lost into a conflict. Its
calls do not return to Python before they end, so each is made in a thread of its own: a signal
is handled at once, and the end of the process waits for none.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from datetime import timedelta
from typing import TypeVar

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)
from obstore.store import S3Store

from packer_fork.errors import StoreError
from packer_fork.stores.object_store import Listed, Object
from packer_fork.stores.retry import AnsweredError
from packer_fork.stores.shared.keys import UnsureError
from packer_fork.stores.transport_error import printable

_DENIED = {
    *("AccessDenied", "ExpiredToken", "InvalidAccessKeyId", "InvalidToken"),
    *("RequestTimeTooSkewed", "SignatureDoesNotMatch"),
}
"""Error codes of a list, for which obstore has no exception of its own."""

_CODE = re.compile(r"<Code>(\w+)</Code>")

T = TypeVar("T")


class Bucket:
    """Implements ``stores.object_store.ObjectStore``. Safe for threads; not for forks."""

    kind = "S3"

    def __init__(
        self,
        bucket: str,
        prefix: str,
        *,
        endpoint: str = "",
        connect_timeout: float = 3.0,
        request_timeout: float = 10.0,
    ) -> None:
        """Credentials and region are those of the environment. `endpoint`: URL, "" for AWS."""
        self.location = f"s3://{bucket}/{prefix}"
        self._bucket = bucket
        self._is_closed = False
        self._store = S3Store(
            bucket,
            prefix=prefix,
            **({"endpoint": endpoint} if endpoint else {}),  # type: ignore[arg-type]
            client_options={
                "allow_http": endpoint.startswith("http://"),
                "connect_timeout": timedelta(seconds=connect_timeout),
                "timeout": timedelta(seconds=request_timeout),
            },
            retry_config={"max_retries": 0},
        )

    def get(self, name: str) -> Object | None:
        def get() -> Object | None:
            try:
                found = obstore.get(self._store, name)
                return Object(bytes(found.bytes()), found.meta["e_tag"] or "")
            except FileNotFoundError as error:
                if _is_missing_bucket(error):
                    raise
                return None

        return self._called(get)

    def put(self, name: str, data: bytes) -> str:
        put = obstore.put
        return self._called(
            lambda: put(self._store, name, data, use_multipart=False)["e_tag"] or ""
        )

    def put_new(self, name: str, data: bytes) -> str | None:
        return self._put_if(name, data, "create")

    def put_if(self, name: str, data: bytes, etag: str) -> str | None:
        return self._put_if(name, data, {"e_tag": etag})

    def list(self, prefix: str) -> Sequence[Listed]:
        folder = prefix.rpartition("/")[0]  # obstore compares whole parts of names

        def list_() -> Sequence[Listed]:
            pages = obstore.list(self._store, folder or None, chunk_size=1000)
            return [
                Listed(each["path"], each["last_modified"].timestamp())
                for page in pages
                for each in page
                if each["path"].startswith(prefix)
            ]

        return self._called(list_)

    def delete(self, names: Sequence[str]) -> None:
        if names:
            self._called(lambda: obstore.delete(self._store, names))

    def close(self) -> None:
        """Refuse further requests; those under way end by their timeout, in their threads."""
        self._is_closed = True

    def _put_if(self, name: str, data: bytes, mode: obstore.PutMode) -> str | None:
        def put() -> str | None:
            try:
                return obstore.put(self._store, name, data, mode=mode)["e_tag"]
            except (AlreadyExistsError, PreconditionError) as error:
                if _is_missing_bucket(error):
                    raise
                return None

        return self._called(put)

    def _called(self, call: Callable[[], T]) -> T:
        if self._is_closed:
            raise StoreError(f"{self.location} was let go of.")
        try:
            return _in_thread(call)
        except (BaseError, FileNotFoundError) as error:
            raise self._error(error) from error

    def _error(self, error: Exception) -> StoreError:
        if _is_missing_bucket(error):
            return AnsweredError(
                f"{self.location}: there is no bucket {self._bucket!r}.",
                hint="Create the bucket, or correct its name.",
            )
        code = _code(error)
        why = code or printable(str(error).partition("\n")[0])
        if code in _DENIED or isinstance(error, PermissionDeniedError | UnauthenticatedError):
            return AnsweredError(
                f"{self.location} denies the access ({why}).",
                hint="Grant s3:GetObject, s3:PutObject, s3:DeleteObject and s3:ListBucket.",
            )
        return UnsureError(
            f"{self.location} does not answer ({why}).",
            hint="Look at endpoint and region, and whether they can be reached from here.",
        )


def _is_missing_bucket(error: Exception) -> bool:
    return _code(error) == "NoSuchBucket"


def _code(error: Exception) -> str:
    """The error code of S3 in the text of an exception; "" if there is none."""
    found = _CODE.search(str(error))
    return found[1] if found else ""


def _in_thread(call: Callable[[], T]) -> T:
    done: Future[T] = Future()

    def work() -> None:
        try:
            done.set_result(call())
        except BaseException as error:  # noqa: BLE001 (it is raised where it is waited for)
            done.set_exception(error)

    threading.Thread(target=work, name="bucket", daemon=True).start()
    return done.result()
