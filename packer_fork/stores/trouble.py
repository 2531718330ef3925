"""Why a server did not do what it was asked: below HTTP, in words for people."""

from __future__ import annotations

import http.client
import os
import socket
import ssl
from textwrap import shorten

from packer_fork.terminal import clean


class Trouble(Exception):  # noqa: N818 (what becomes of it is for others to say)
    """`why` follows the server's name in a sentence.

    ``unsure``: the server may have acted all the same. ``lasting``: trying again changes
    nothing. ``abrupt``: it ended the connection without a word, perhaps because it
    expected TLS, or expected none.
    """

    def __init__(
        self,
        why: str,
        *,
        hint: str = "",
        unsure: bool = False,
        lasting: bool = False,
        abrupt: bool = False,
    ) -> None:
        super().__init__(why)
        self.why = why
        self.hint = hint
        self.unsure = unsure
        self.lasting = lasting
        self.abrupt = abrupt


def said(text: str) -> str:
    """What a server said, fit for a sentence of ours: one line, and not too long."""
    return shorten(clean(text), 300, placeholder=" ...")


def connecting(error: Exception, timeout: float) -> Trouble:
    """What a failure to connect means; nothing was sent."""
    match error:
        case socket.gaierror() | UnicodeError():
            return Trouble("has no address", hint="Look at the name in the store's URL.")
        case TimeoutError():
            return Trouble(f"cannot be reached within {timeout:g} s")
        case ConnectionRefusedError():
            return Trouble("refuses the connection")
        case ssl.SSLError() | ConnectionError():
            return _certificates(error) or Trouble(f"hangs up ({_reason(error)})", abrupt=True)
        case _:
            return Trouble(f"cannot be reached ({_reason(error)})")


def exchanging(error: Exception, timeout: float) -> Trouble:
    """What a failure after that means; the server may have got the whole request."""
    match error:
        case TimeoutError():
            return Trouble(f"does not answer within {timeout:g} s", unsure=True)
        case http.client.RemoteDisconnected() | ConnectionError():
            hint = "Look at the port, and at how many connections a client may have there."
            return Trouble("hangs up without an answer", hint=hint, unsure=True, abrupt=True)
        case http.client.IncompleteRead():
            return Trouble("hangs up in the middle of its answer", unsure=True)
        case http.client.HTTPException():
            return Trouble("does not speak HTTP", hint="Look at the port.", lasting=True)
        case _:
            # A server of TLS 1.3 looks at our certificate when the handshake is over for us.
            lost = Trouble(f"cannot be heard any more ({_reason(error)})", unsure=True)
            return _certificates(error) or lost


def unsendable() -> Trouble:
    """A header of a request cannot be one."""
    return Trouble(
        "cannot be asked with these credentials",
        hint="Look at user, password and token for line ends and other such characters.",
        lasting=True,
    )


def _certificates(error: Exception) -> Trouble | None:
    """What is the matter with certificates, if that is it."""
    match error:
        case ssl.SSLCertVerificationError():
            return Trouble(
                f"has a certificate that is not trusted ({said(error.verify_message)})",
                hint="Name the file with the certificate of the authority that signed it.",
                lasting=True,
            )
        case ssl.SSLError() if "ALERT" in (error.reason or "") and "CERT" in (error.reason or ""):
            return Trouble(
                "does not accept our certificate, or wants one",
                hint="Name the files with a certificate and its key that the servers trust.",
                lasting=True,
            )
        case _:
            return None


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return f"TLS: {(error.reason or 'unknown').replace('_', ' ').lower()}"
    if isinstance(error, OSError) and error.errno:
        return os.strerror(error.errno)
    return type(error).__name__
