"""An authority of the test's own, and what it signs, by openssl."""

import ssl
import subprocess
from dataclasses import dataclass
from pathlib import Path

CONFIGURATION = """\
[req]
distinguished_name = subject
[subject]
[authority]
basicConstraints = critical, CA:true
keyUsage = critical, keyCertSign, cRLSign
subjectKeyIdentifier = hash
[server]
basicConstraints = critical, CA:false
keyUsage = critical, digitalSignature
extendedKeyUsage = serverAuth, clientAuth
subjectAltName = IP:127.0.0.1, DNS:localhost
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
[client]
basicConstraints = critical, CA:false
keyUsage = critical, digitalSignature
extendedKeyUsage = clientAuth
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
"""


@dataclass(frozen=True)
class Signed:
    """A certificate, and the key that belongs to it."""

    certificate: Path
    key: Path


@dataclass(frozen=True)
class Certificates:
    """Of one authority: a server's for 127.0.0.1 and localhost, and those of two clients."""

    ca: Path
    server: Signed
    client: Signed  # names nobody: it has no CN
    named: Signed  # its CN is what was asked for

    def context(self) -> ssl.SSLContext:
        """By which a client trusts the server and is let in."""
        context = ssl.create_default_context(cafile=str(self.ca))
        context.load_cert_chain(self.client.certificate, self.client.key)
        return context


def certificates(folder: Path, name: str = "ci") -> Certificates:
    """Make them all in `folder`; `name` is the CN of the client that has one."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "openssl.cnf").write_text(CONFIGURATION, encoding="utf-8")
    authority = _sign(folder, "authority", "/CN=Authority of a test")
    return Certificates(
        authority.certificate,
        server=_sign(folder, "server", "/CN=server", authority),
        client=_sign(folder, "client", "/O=packer-fork", authority),
        named=_sign(folder, "named", f"/CN={name}", authority, kind="client"),
    )


def _sign(
    folder: Path, file: str, subject: str, by: Signed | None = None, kind: str = ""
) -> Signed:
    """A certificate by the extensions of section `kind`, signed by itself if by nobody else."""
    made = Signed(folder / f"{file}.pem", folder / f"{file}.key")
    signer = ["-CA", str(by.certificate), "-CAkey", str(by.key)] if by else []
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-config", str(folder / "openssl.cnf")),
            *("-extensions", kind or file, "-subj", subject, "-days", "2", *signer),
            *("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc"),
            *("-out", str(made.certificate), "-keyout", str(made.key)),
        ],
        check=True,
        capture_output=True,
    )
    made.key.chmod(0o600)
    return made
