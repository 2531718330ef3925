"""Why one server did not carry out a request, in words for users."""

from __future__ import annotations

import http.client
import os
import socket
import ssl
from textwrap import shorten

from packer_fork.terminal import clean


class TransportError(Exception):
    """One server did not carry out a request. `why` completes a sentence after its name.

    ``outcome_unknown``: the server may have carried it out nevertheless. ``permanent``: a retry
    cannot succeed. ``abrupt``: the connection ended without a response, perhaps because the
    server expects TLS, or does not.
    """

    def __init__(
        self,
        why: str,
        *,
        hint: str = "",
        outcome_unknown: bool = False,
        permanent: bool = False,
        abrupt: bool = False,
    ) -> None:
        super().__init__(why)
        self.why = why
        self.hint = hint
        self.outcome_unknown = outcome_unknown
        self.permanent = permanent
        self.abrupt = abrupt


def printable(text: str) -> str:
    """A server's text as part of a message: one line, at most 300 characters."""
    return shorten(clean(text), 300, placeholder=" ...")


def connect_failed(error: BaseException, timeout: float) -> TransportError:
    """The failure to connect within `timeout` seconds; nothing was sent."""
    match error:
        case socket.gaierror() | UnicodeError():
            return TransportError("has no address", hint="Look at the name in the store's URL.")
        case TimeoutError():
            return TransportError(f"cannot be reached within {timeout:g} s")
        case ConnectionRefusedError():
            return TransportError("refuses the connection")
        case ssl.SSLError() | ConnectionError():
            hung_up = TransportError(f"hangs up ({_reason(error)})", abrupt=True)
            return _certificate_rejected(error) or hung_up
        case _:
            return TransportError(f"cannot be reached ({_reason(error)})")


def exchange_failed(error: BaseException, timeout: float) -> TransportError:
    """A failure after the connection stood; the server may have received the whole request."""
    match error:
        case TimeoutError():
            return TransportError(f"does not answer within {timeout:g} s", outcome_unknown=True)
        case http.client.RemoteDisconnected() | ConnectionError():
            return TransportError(
                "hangs up without an answer",
                hint="Look at the port, and at how many connections a client may have there.",
                outcome_unknown=True,
                abrupt=True,
            )
        case http.client.IncompleteRead():
            return TransportError("hangs up in the middle of its answer", outcome_unknown=True)
        case http.client.HTTPException():
            return TransportError("does not speak HTTP", hint="Look at the port.", permanent=True)
        case _:
            # With TLS 1.3 the server checks the client certificate after the client's handshake.
            why = f"cannot be heard any more ({_reason(error)})"
            return _certificate_rejected(error) or TransportError(why, outcome_unknown=True)


def unusable_credentials() -> TransportError:
    """Credentials that cannot be part of a header."""
    return TransportError(
        "cannot be asked with these credentials",
        hint="Look at user, password and token for line ends and other such characters.",
        permanent=True,
    )


def _certificate_rejected(error: BaseException) -> TransportError | None:
    match error:
        case ssl.SSLCertVerificationError():
            return TransportError(
                f"has a certificate that is not trusted ({printable(error.verify_message)})",
                hint="Name the file with the certificate of the authority that signed it.",
                permanent=True,
            )
        case ssl.SSLError() if "ALERT" in (error.reason or "") and "CERT" in (error.reason or ""):
            return TransportError(
                "does not accept our certificate, or wants one",
                hint="Name the files with a certificate and its key that the servers trust.",
                permanent=True,
            )
        case _:
            return None


def _reason(error: BaseException) -> str:
    if isinstance(error, ssl.SSLError):
        return f"TLS: {(error.reason or 'unknown').replace('_', ' ').lower()}"
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    return type(error).__name__
