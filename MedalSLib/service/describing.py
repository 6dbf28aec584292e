"""What would leave this computer, in words, before it does."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import numpy as np

from MedalSLib.service.addresses import Address


@dataclass(frozen=True)
class UploadDescription:
    """What would leave this computer, for the question before the first upload to a server.

    Attributes:
        host: Name of the server.
        encrypted: Whether the connection is encrypted.
        local: Whether the server is on this computer.
        text: What is sent, what is not, and what the server does with it, in sentences.
    """

    host: str
    encrypted: bool
    local: bool
    text: str


def describe_upload(
    address: Address,
    lease_seconds: float,
    array_kji: np.ndarray,
    prompts: Sequence[str] = (),
    masks: Sequence[str] = (),
) -> UploadDescription:
    """Say what would be sent to a server for an image; sends nothing.

    Args:
        address: The server.
        lease_seconds: How long it keeps what it has of a client that is gone.
        array_kji: Intensities (K, J, I).
        prompts: Names that would be sent.
        masks: Names of the masks that would be sent.
    """
    k, j, i = array_kji.shape
    host = urlsplit(address.url).hostname or address.url
    safety = "encrypted" if address.encrypted else "NOT encrypted: it can be read on the way"
    sent = [
        f"the image's {k} x {j} x {i} voxel values ({math.ceil(array_kji.nbytes / 2**20)} MiB before compression)",
        "its position, orientation and spacing, and its modality",
        "the names of the structures you type" + (f" ({', '.join(prompts)})" if prompts else ""),
    ]
    if masks:
        sent.append(f"the masks of {', '.join(masks)}")
    text = (
        f"To {host} ({'this computer' if address.local else safety}): {'; '.join(sent)}. "
        "Not sent: the patient's name and number, DICOM headers, file names, your name. "
        "The server keeps it in memory while the image is open here, and for "
        f"{lease_seconds / 60:.0f} min if this computer goes away; it writes none of it to a disk."
    )
    return UploadDescription(host, address.encrypted, address.local, text)
