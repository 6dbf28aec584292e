"""Asks the server in the same container for its health; exit code 0 if it is well, else 1.

Usage: `python -m MedalSLib.service.healthcheck [PORT]`
"""

from __future__ import annotations

import http.client
import ssl
import sys

from MedalSLib.service.protocol import DEFAULT_PORT

SECONDS = 5.0


def healthy(port: int) -> bool:
    """Tell whether `/health` on the loopback answers 200, with TLS or without.

    The certificate is not checked: it names the container's address outside, and the loopback needs no proof.
    """
    context = ssl._create_unverified_context()
    connections: tuple[http.client.HTTPConnection, ...] = (
        http.client.HTTPSConnection("127.0.0.1", port, timeout=SECONDS, context=context),
        http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS),
    )
    for connection in connections:
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == 200
        except (OSError, http.client.HTTPException):
            continue
        finally:
            connection.close()
    return False


if __name__ == "__main__":
    sys.exit(0 if healthy(int(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT_PORT) else 1)
