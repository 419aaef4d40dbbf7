"""A certificate for one serving, made by openssl: browsers give the camera to https alone."""

from __future__ import annotations

import hashlib
import shutil
import ssl
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from mobileseg.errors import MobilesegError

_PATIENCE_S = 60
_DAYS = 7

# As a file, since old openssl and LibreSSL do not take extensions as options.
_CONFIG = """
[req]
distinguished_name = name
x509_extensions = extensions
prompt = no
[name]
CN = mobileseg demo
[extensions]
subjectAltName = IP:{address}
extendedKeyUsage = serverAuth
basicConstraints = critical, CA:FALSE
"""


@dataclass(frozen=True)
class Certificate:
    """What a server encrypts with, and the SHA-256 by which a person knows its certificate."""

    context: ssl.SSLContext
    fingerprint: str


def self_signed(address: str) -> Certificate:
    """Return a new certificate for an address; its key is in memory alone when this returns.

    Raises MobilesegError where openssl is missing or fails.
    """
    openssl = shutil.which("openssl")
    if openssl is None:
        raise MobilesegError(
            "--lan: there is no openssl to make a certificate with; install it, or add --http: "
            "then nothing is encrypted and browsers refuse the camera, pictures work"
        )
    with tempfile.TemporaryDirectory(prefix="mobileseg-") as scratch:
        config, key, made = (Path(scratch) / name for name in ("config", "key.pem", "made.pem"))
        config.write_text(_CONFIG.format(address=address), encoding="utf-8")
        command = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-sha256"]
        command += ["-days", str(_DAYS), "-config", str(config)]
        command += ["-keyout", str(key), "-out", str(made)]
        _run(command)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(made, key)
        der = ssl.PEM_cert_to_DER_cert(made.read_text(encoding="ascii"))
    digest = hashlib.sha256(der).hexdigest().upper()
    return Certificate(context, ":".join(digest[i : i + 2] for i in range(0, len(digest), 2)))


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_PATIENCE_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise MobilesegError(f"--lan: openssl failed ({error}); add --http") from None
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise MobilesegError(f"--lan: openssl failed ({last}); add --http")
