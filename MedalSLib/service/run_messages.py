"""Run requests and results as messages of the protocol, and back: masks as the bits of their box."""

from __future__ import annotations

from collections.abc import Mapping

from MedalSLib.errors import InputError
from MedalSLib.run import RunRequest, RunResult
from MedalSLib.service.encoding import (
    BITS,
    Shape,
    check_array,
    decode_labels,
    decode_mask,
    encode_labels,
    encode_mask,
)
from MedalSLib.service.protocol import EncodedArray, ResultMessage, RunMessage
from MedalSLib.volume.mask import BoxMask


def encode_request(request: RunRequest, shape: Shape, stream_structures: bool = False) -> RunMessage:
    """Return a request as it is sent.

    Args:
        request: What is asked of the session.
        shape: (K, J, I) of the session's image.
        stream_structures: Send each mask as an event as soon as it is final.

    Raises:
        InputError: A mask is on another grid.
    """
    roi = None
    if request.roi is not None:
        (i0, i1), (j0, j1), (k0, k1) = request.roi  # numpy's integers are not JSON's
        roi = ((int(i0), int(i1)), (int(j0), int(j1)), (int(k0), int(k1)))
    return RunMessage(
        prompts=tuple(request.prompts),
        masks=_encode_masks(request.masks, shape),
        locked=_encode_masks(request.locked, shape),
        painted=_encode_masks(request.painted, shape),
        roi=roi,
        options=request.options,
        stream_structures=stream_structures,
    )


def check_request(message: RunMessage, shape: Shape) -> None:
    """Check what a request's masks announce, before any of them is decoded.

    Raises:
        DamagedError: A mask is not on the grid of the image.
    """
    for group in message.mask_groups:
        for encoded in group.values():
            check_array(encoded, shape, (BITS,))


def decode_request(message: RunMessage, shape: Shape) -> RunRequest:
    """Return the request that `encode_request` wrote.

    Raises:
        DamagedError: A mask does not fit the image, or was damaged.
    """
    masks, locked, painted = (
        {name: decode_mask(encoded, shape) for name, encoded in given.items()} for given in message.mask_groups
    )
    return RunRequest(message.prompts, masks, locked, painted, message.roi, message.options)


def encode_result(result: RunResult) -> ResultMessage:
    """Return a result as it is sent."""
    return ResultMessage(
        masks={name: encode_mask(mask) for name, mask in result.box_masks.items()},
        labelmap=encode_labels(result.labels),
        names=tuple(result.names),
        instances={name: encode_labels(labels) for name, labels in result.instances.items()},
        report=result.report,
    )


def decode_result(message: ResultMessage, shape: Shape) -> RunResult:
    """Return the result that `encode_result` wrote.

    Raises:
        DamagedError: A mask or labelmap does not fit the image, or was damaged.
    """
    return RunResult(
        box_masks={name: decode_mask(encoded, shape) for name, encoded in message.masks.items()},
        labels=decode_labels(message.labelmap, shape),
        names=message.names,
        report=message.report,
        instances={name: decode_labels(encoded, shape) for name, encoded in message.instances.items()},
    )


def _encode_masks(masks: Mapping[str, BoxMask], shape: Shape) -> dict[str, EncodedArray]:
    for name, mask in masks.items():
        if mask.shape != shape:
            raise InputError(
                f"The mask “{name}” has the shape {mask.shape}, the image {shape}.",
                "Resample the mask to the image's grid.",
            )
    return {name: encode_mask(mask) for name, mask in masks.items()}
