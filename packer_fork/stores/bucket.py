"""An object store by `obstore`: a bucket of S3 or what speaks S3.

obstore must not retry: it would turn a success whose response was lost into a conflict. Its
calls do not return to Python before they end, so each is made in a thread of its own: a signal
is handled at once, and the end of the process waits for none.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

import obstore
from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)
from obstore.store import S3Store

from packer_fork.errors import StoreError, UsageError
from packer_fork.stores.object_store import Listed, Object
from packer_fork.stores.retry import AnsweredError, UnavailableError
from packer_fork.stores.shared.keys import UnsureError
from packer_fork.stores.transport_error import printable

if TYPE_CHECKING:
    from obstore.auth.boto3 import Boto3CredentialProvider

_GRANT = "Grant s3:GetObject, s3:PutObject, s3:DeleteObject and s3:ListBucket."
_RENEW = "Renew them, for example with `aws sso login`, and repeat the command."
_CHECK = "Check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN."
_REGION = "Set AWS_REGION to the region of the bucket."

_REFUSALS = {
    "AccessDenied": ("denies {action}", _GRANT),
    "AllAccessDisabled": ("denies {action}", _GRANT),
    "ExpiredToken": ("refuses the credentials: they have expired", _RENEW),
    "InvalidAccessKeyId": ("does not know the access key", _CHECK),
    "InvalidToken": ("refuses the session token", _CHECK),
    "SignatureDoesNotMatch": ("refuses the signature: the secret key is wrong", _CHECK),
    "RequestTimeTooSkewed": (
        "refuses the time of the request: the clock of this machine is wrong",
        "Synchronize the clock of this machine.",
    ),
    "PermanentRedirect": ("is in another region", _REGION),
    "AuthorizationHeaderMalformed": ("is in another region", _REGION),
    "IllegalLocationConstraintException": ("is in another region", _REGION),
    "NotImplemented": (
        "does not implement conditional writes, so it cannot hold a lock",
        "Use an object store that honours If-Match and If-None-Match.",
    ),
}
"""By error code of S3: what the bucket does, and a hint. No retry can succeed."""

_THROTTLED = frozenset({"SlowDown", "TooManyRequests", "RequestLimitExceeded"})

_CODES = {
    "incorrectly configured region": "PermanentRedirect",
    "status code: 403": "AccessDenied",
    "status code: 429": "TooManyRequests",
}
"""Error codes that obstore has dropped, or that were not sent, by what its text says instead."""

_METADATA = re.compile(r"/latest/(api/token|meta-data)")
"""Paths of the metadata service, which obstore asks if the environment has no credentials."""

_CODE = re.compile(r"<Code>(\w+)</Code>")
_CONNECT = "kind: Connect"
_SYSTEM_MESSAGE = re.compile(r'message: "([^"]+)"')

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
        """Credentials and region are those of the environment. `endpoint`: URL, "" for AWS.

        Raises UsageError for an environment or profile that is unusable.
        """
        self.location = f"s3://{bucket}/{prefix}"
        self._where = f"{self.location} at {endpoint}" if endpoint else self.location
        self._bucket = bucket
        self._is_closed = False
        try:
            self._store = S3Store(
                bucket,
                prefix=prefix,
                **({"endpoint": endpoint} if endpoint else {}),  # type: ignore[arg-type]
                client_options={
                    **({"allow_http": True} if endpoint.startswith("http://") else {}),
                    "connect_timeout": timedelta(seconds=connect_timeout),
                    "timeout": timedelta(seconds=request_timeout),
                },
                retry_config={"max_retries": 0},
                credential_provider=_profile_credentials(),
            )
        except BaseError as error:
            why = printable(str(error).partition("\n")[0])
            raise UsageError(
                f"{self._where} cannot be used with this environment: {why}",
                hint="check the variables whose names begin with AWS_",
            ) from error

    def get(self, name: str) -> Object | None:
        def get() -> Object | None:
            try:
                found = obstore.get(self._store, name)
                return Object(bytes(found.bytes()), found.meta["e_tag"] or "")
            except FileNotFoundError as error:
                if _is_missing_bucket(error):
                    raise
                return None

        return self._called("s3:GetObject", get)

    def put(self, name: str, data: bytes) -> str:
        put = obstore.put
        return self._called(
            "s3:PutObject",
            lambda: put(self._store, name, data, use_multipart=False)["e_tag"] or "",
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

        return self._called("s3:ListBucket", list_)

    def delete(self, names: Sequence[str]) -> None:
        if names:
            self._called("s3:DeleteObject", lambda: obstore.delete(self._store, names))

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

        return self._called("s3:PutObject", put)

    def _called(self, action: str, call: Callable[[], T]) -> T:
        """`action`: what the credentials must allow, for messages."""
        if self._is_closed:
            raise StoreError(f"{self.location} was let go of.")
        try:
            return _in_thread(call)
        except (BaseError, FileNotFoundError) as error:
            raise self._error(error, action) from error

    def _error(self, error: Exception, action: str) -> StoreError:
        text, code, where = str(error), _code(error), self._where
        if _is_missing_bucket(error):
            return AnsweredError(
                f"{where}: there is no bucket {self._bucket!r}.",
                hint="Create the bucket, or correct its name.",
            )
        if _METADATA.search(text):
            return UnavailableError(
                f"There are no credentials for {where}.",
                hint="Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE.",
            )
        if code in _REFUSALS:
            what, hint = _REFUSALS[code]
            return AnsweredError(f"{where} {what.format(action=action)} ({code}).", hint=hint)
        if code in _THROTTLED:
            return UnsureError(
                f"{where} throttles requests ({code}).",
                hint="Repeat the command later, or share the bucket with fewer builds.",
            )
        if _CONNECT in text:
            found = _SYSTEM_MESSAGE.search(text)
            why = printable(found[1]) if found else "no connection"
            return UnavailableError(
                f"{where} cannot be reached ({why}).",
                hint="Check AWS_ENDPOINT_URL, AWS_REGION and the network.",
            )
        why = code or printable(text.partition("\n")[0])
        return UnsureError(
            f"{where} does not answer ({why}).",
            hint="Check AWS_ENDPOINT_URL, AWS_REGION and the network.",
        )


def _profile_credentials() -> Boto3CredentialProvider | None:
    """Those of AWS_PROFILE, SSO included, which obstore does not read by itself.

    None leaves it to obstore: keys of the environment, web, container or instance identity.
    """
    profile = os.environ.get("AWS_PROFILE")
    if not profile or os.environ.get("AWS_ACCESS_KEY_ID"):
        return None
    try:
        from botocore.exceptions import BotoCoreError  # type: ignore[import-untyped]
        from obstore.auth.boto3 import Boto3CredentialProvider
    except ImportError as error:
        raise UsageError(
            f"AWS_PROFILE={printable(profile)} needs the library boto3, which is not installed",
            hint="pip install boto3, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        ) from error
    try:
        return Boto3CredentialProvider()
    except (BotoCoreError, ValueError) as error:
        raise UsageError(
            f"AWS_PROFILE={printable(profile)} gives no credentials: {printable(str(error))}",
            hint="check `aws sts get-caller-identity`, or log in with `aws sso login`",
        ) from error


def _is_missing_bucket(error: Exception) -> bool:
    return _code(error) == "NoSuchBucket"


def _code(error: Exception) -> str:
    """The error code of S3, read from the text of an exception; "" if there is none."""
    text = str(error)
    if found := _CODE.search(text):
        return found[1]
    if isinstance(error, PermissionDeniedError | UnauthenticatedError):
        return "AccessDenied"
    return next((code for said, code in _CODES.items() if said in text), "")


def _in_thread(call: Callable[[], T]) -> T:
    done: Future[T] = Future()

    def work() -> None:
        try:
            done.set_result(call())
        except BaseException as error:  # noqa: BLE001 (it is raised where it is waited for)
            done.set_exception(error)

    threading.Thread(target=work, name="bucket", daemon=True).start()
    return done.result()
