"""When the certificates of a file expire.

What does not live here: connections that trust them (`kafka`, `database`).
"""

from __future__ import annotations

import ssl
from pathlib import Path


def expires_at(file: Path) -> float | None:
    """Return when a PEM file of authorities has none left that is valid, s since 1970; None where it cannot be read.

    The last one counts: while an authority is replaced, the file holds the old one and the new one.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(cafile=file)
    except OSError:  # ssl.SSLError is one
        return None
    return max((ssl.cert_time_to_seconds(str(each["notAfter"])) for each in context.get_ca_certs()), default=None)
