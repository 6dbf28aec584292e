"""Server-sent events of a run as text: written by the server, checked by the client."""

from __future__ import annotations

import zlib


def format_event(number: int, kind: str, payload: str) -> str:
    """Return an event as it is sent, with a checksum, without which a flipped bit would be believed.

    Args:
        number: The event's number.
        kind: One of `event_stream.KINDS`.
        payload: Its values as JSON.
    """
    return f"id: {number}\nevent: {kind}\ndata: {payload}\ncheck: {checksum(str(number), kind, payload)}\n\n"


def checksum(number: str, kind: str, payload: str) -> str:
    """Return the checksum of an event: hexadecimal CRC-32 of its parts."""
    return f"{zlib.crc32(f'{number} {kind} {payload}'.encode()):08x}"
