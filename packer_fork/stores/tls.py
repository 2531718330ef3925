"""TLS to the servers of a shared store: certificates, and whether a server expects TLS."""

from __future__ import annotations

import contextlib
import socket
import ssl

from packer_fork.errors import UsageError
from packer_fork.stores.access import Access, Endpoint

PROBE_TIMEOUT = 1.0
"""Seconds in which a server shows whether it expects TLS."""


def tls_context(access: Access) -> ssl.SSLContext:
    """Verifies the servers, and presents the client certificate. Raises UsageError."""
    try:
        context = ssl.create_default_context(cafile=access.ca or None)
    except OSError as error:
        raise UsageError(
            f"{access.ca} cannot be used as the certificate of an authority: {_reason(error)}.",
            hint="Name a readable PEM file.",
        ) from error
    if access.certificate:
        try:
            # With a password given, OpenSSL never prompts for one.
            context.load_cert_chain(access.certificate, access.key or None, password="")
        except OSError as error:
            raise UsageError(
                f"{access.certificate} with the key {access.key or access.certificate} cannot be"
                f" used as a client certificate: {_reason(error)}.",
                hint="Name readable PEM files that belong together; the key must have no password.",
            ) from error
    return context


def expects_plain_http(endpoint: Endpoint) -> bool:
    """Whether the server answers HTTP without TLS, and does not ask for TLS."""
    with contextlib.suppress(OSError), _connected(endpoint) as sock:
        sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
        response = sock.recv(1 << 12)
        return response.startswith(b"HTTP/") and b"HTTPS" not in response
    return False


def expects_tls(endpoint: Endpoint) -> bool:
    """Whether the server answers a TLS handshake, whatever its certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # nothing is sent
    try:
        with _connected(endpoint) as sock, context.wrap_socket(sock):
            return True
    except ssl.SSLError as error:
        return "ALERT" in (error.reason or "")
    except OSError:
        return False


def _connected(endpoint: Endpoint) -> socket.socket:
    return socket.create_connection((endpoint.host, endpoint.port), PROBE_TIMEOUT)


def _reason(error: OSError) -> str:
    reason = getattr(error, "reason", None)
    return reason.replace("_", " ").lower() if reason else error.strerror or str(error)
