"""The node's throw-away authority, and the two certificates that it signs: the API server's, and the one it shows."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

from node.errors import NodeFailed

ACCOUNTS_CERTIFICATE = "service-accounts.crt"

_CONFIGURATION = Path(__file__).with_name("files") / "openssl.cnf"
_TIMEOUT_S = 30


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its private key, both PEM files in one folder."""

    certificate: Path
    key: Path

    @classmethod
    def named(cls, folder: Path, name: str) -> Pair:
        """Return the files that `name` has in `folder`, which need not be there."""
        return cls(folder / f"{name}.crt", folder / f"{name}.key")


def make(folder: Path) -> Pair:
    """Make `ca`, `apiserver` with its chain, and `kubelet-client` in `folder`; return the last, to show kubelets.

    ACCOUNTS_CERTIFICATE is the server's without its chain: what tokens that its key signed are checked against. The
    server's names and addresses stand in openssl.cnf. Raises NodeFailed with openssl's words.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    authority, server, client = (Pair.named(folder, name) for name in ("ca", "apiserver", "kubelet-client"))
    _issue(authority, "authority", "/CN=marketfeed-node")
    _issue(server, "server", "/CN=kube-apiserver", authority)
    _issue(client, "client", "/O=system:masters/CN=kube-apiserver-kubelet-client", authority)
    own = server.certificate.read_text()
    (folder / ACCOUNTS_CERTIFICATE).write_text(own)
    chain = own + authority.certificate.read_text()
    server.certificate.write_text(chain)
    return client


def _issue(pair: Pair, extensions: str, subject: str, authority: Pair | None = None) -> None:
    signer: list[str | Path] = ["-CA", authority.certificate, "-CAkey", authority.key] if authority else []
    command: list[str | Path] = ["openssl", "req", "-x509", "-config", _CONFIGURATION, "-extensions", extensions]
    command += ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc", "-days", "3650", "-subj", subject]
    command += [*signer, "-keyout", pair.key, "-out", pair.certificate]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    if answer.returncode:
        raise NodeFailed(f"openssl made no certificate: {answer.stderr.strip()}")
