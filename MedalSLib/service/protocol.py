"""The wire protocol of the remote engine, shared by both sides: versions, messages, and errors as JSON.

Pure standard library, so that a thin Slicer can import it.  Every message is a frozen dataclass whose fields are the
JSON's; the server hands the same classes to FastAPI, so the OpenAPI description cannot drift from what the client
sends.  Arrays travel as `EncodedArray` (see `MedalSLib.service.encoding`), images as chunks.

Every request that changes something is a PUT or DELETE on an identifier the client chose, so repeating it is safe.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, is_dataclass
from types import UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

from MedalSLib.engine.interface import EngineInfo
from MedalSLib.errors import (
    CancelledError,
    InputError,
    MedalSError,
    ModelError,
    OutputError,
    PromptError,
    ResourceError,
    ServiceError,
)
from MedalSLib.records import field_types
from MedalSLib.run import Report, RunOptions

PROTOCOL = 1
"""Version spoken here; raised whenever a message changes in a way the other side could misread."""
OLDEST_PROTOCOL = 1
"""Oldest version still understood here."""
SERVICE = "medals"
"""How a server says that it is one of ours, in the answer to `/handshake`."""
DEFAULT_PORT = 8765

PROTOCOL_HEADER = "Medals-Protocol"
AFFINITY_HEADER = "X-Session-ID"
"""Names the session a request belongs to, so that a load balancer can keep a session on one replica; the name is the
one that Ray Serve's consistent-hash router looks for."""
REQUEST_ID_HEADER = "X-Request-ID"
DIGEST_HEADER = "Content-Digest"
"""RFC 9530: both sides send the SHA-256 of each body, so that damage on the way is noticed and the request repeated."""

T = TypeVar("T")

IDENTIFIER = re.compile(r"[0-9a-f]{32}")
DIGEST = re.compile(r"[0-9a-f]{64}")


def version_problem(
    server: int, server_oldest: int, client: int = PROTOCOL, client_oldest: int = OLDEST_PROTOCOL
) -> str:
    """Return which side has to be updated, in a sentence; empty if the two understand each other.

    Args:
        server: Newest version the server speaks.
        server_oldest: Oldest version it understands.
        client: Newest version the client speaks.
        client_oldest: Oldest version it understands.
    """
    if client < server_oldest:
        return (
            f"This Medal S speaks version {client} of the protocol, but the server needs at least version "
            f"{server_oldest}: update Medal S on this computer."
        )
    if server < client_oldest:
        return (
            f"The server speaks version {server} of the protocol, but this Medal S needs at least version "
            f"{client_oldest}: ask the server's administrator to update the server."
        )
    return ""


@dataclass(frozen=True)
class Handshake:
    """Answer to `GET /handshake`, the only thing a server tells without a key.

    Attributes:
        service: Always "medals".
        protocol: Newest protocol version the server speaks.
        oldest_protocol: Oldest protocol version it still understands.
        software: Version of Medal S.
        authentication: "key" if requests need an API key, else "none".
    """

    service: str
    protocol: int
    oldest_protocol: int
    software: str
    authentication: str


@dataclass(frozen=True)
class KeyUsage:
    """How the keys of a name were used since the server was started; a value of the answer to `GET /v1/keys`.

    Attributes:
        requests: How often.
        last: When last (ISO 8601, UTC); None for never.
    """

    requests: int
    last: str | None


@dataclass(frozen=True)
class Limits:
    """What the server accepts, so that a client can say no before it sends anything.

    Attributes:
        chunk_bytes: Size of an image's chunks before compression.
        image_bytes: Largest image before compression.
        request_bytes: Largest body of any other request.
        masks: Most masks of one run.
        lease_seconds: A session ends when nothing was heard of its client for this long.
    """

    chunk_bytes: int
    image_bytes: int
    request_bytes: int
    masks: int
    lease_seconds: float


@dataclass(frozen=True)
class EngineDescription:
    """Answer to `GET /v1/info`: what is loaded, and the server's limits."""

    engine: EngineInfo
    limits: Limits


@dataclass(frozen=True)
class ImageHeader:
    """Announces an image: `PUT /v1/images/{digest}`.

    Attributes:
        dtype: One of `encoding.IMAGE_DTYPES`, little-endian.
        shape: (K, J, I).
    """

    dtype: str
    shape: tuple[int, int, int]


@dataclass(frozen=True)
class ImageStatus:
    """What the server has of an image; `missing` are the indexes of the chunks it still needs."""

    digest: str
    chunk_bytes: int
    chunks: int
    missing: tuple[int, ...]
    complete: bool


@dataclass(frozen=True)
class SessionRequest:
    """Opens a session: `PUT /v1/sessions/{id}`.

    Attributes:
        image: Digest of an image that was uploaded with the same key.
        affine: 4x4 rows, index (i, j, k) to RAS millimetres.
        modality: As the user or the file says it ("CT", "MR"), or None to guess.
    """

    image: str
    affine: tuple[
        tuple[float, float, float, float],
        tuple[float, float, float, float],
        tuple[float, float, float, float],
        tuple[float, float, float, float],
    ]
    modality: str | None = None


@dataclass(frozen=True)
class SessionStatus:
    """An open session as the client sees it."""

    id: str
    modality: str
    warnings: tuple[str, ...]
    lease_seconds: float


@dataclass(frozen=True)
class EncodedArray:
    """A volume cropped to the box of what is in it.

    Attributes:
        shape: (K, J, I) of the whole volume.
        box: Half-open bounds ((k0, k1), (j0, j1), (i0, i1)) of the crop; all zero if nothing is in it.
        dtype: "bits" for a mask (packed, big bit first), else an unsigned type of `encoding.LABEL_DTYPES`.
        data: Base64 of the zlib-compressed crop in C order.
    """

    shape: tuple[int, int, int]
    box: tuple[tuple[int, int], tuple[int, int], tuple[int, int]]
    dtype: str
    data: str


@dataclass(frozen=True)
class RunMessage:
    """A `MedalSLib.run.RunRequest`: `PUT /v1/sessions/{id}/runs/{run}`, or what to estimate.

    Attributes:
        prompts: Names or phrases as the user typed them.
        masks: Spatial prompts by name.
        locked: Voxels whose value is given, by name.
        painted: Those of them that are new since the last result, by name.
        roi: ((i0, i1), (j0, j1), (k0, k1)) or None.
        options: Choices of the run.
        stream_structures: Send each mask as an event as soon as it is final.
    """

    prompts: tuple[str, ...] = ()
    masks: dict[str, EncodedArray] = field(default_factory=dict)
    locked: dict[str, EncodedArray] = field(default_factory=dict)
    painted: dict[str, EncodedArray] = field(default_factory=dict)
    roi: tuple[tuple[int, int], tuple[int, int], tuple[int, int]] | None = None
    options: RunOptions = field(default_factory=RunOptions)
    stream_structures: bool = False

    @property
    def mask_groups(self) -> tuple[dict[str, EncodedArray], ...]:
        """Everything in the message that is decoded to masks, by name."""
        return self.masks, self.locked, self.painted


@dataclass(frozen=True)
class RunStatus:
    """State of a run: "queued", "running", "done", "failed" or "cancelled".

    Attributes:
        id: The run's identifier.
        state: See above.
        position: Runs that come before this one, 0 once it runs.
    """

    id: str
    state: str
    position: int


@dataclass(frozen=True)
class ResultMessage:
    """A `MedalSLib.run.RunResult`: the answer to `GET .../result`."""

    masks: dict[str, EncodedArray]
    labelmap: EncodedArray
    names: tuple[str, ...]
    instances: dict[str, EncodedArray]
    report: Report


@dataclass(frozen=True)
class ErrorBody:
    """Body of every answer that is not a success.

    Attributes:
        kind: Machine-readable kind, see `ERROR_KINDS` and `TRANSIENT_KINDS`.
        cause: What went wrong, in one sentence.
        remedy: What to do about it, in one sentence.
        request_id: Finds the request in the server's log.
    """

    kind: str
    cause: str
    remedy: str = ""
    request_id: str = ""


ERROR_KINDS: dict[str, type[MedalSError]] = {
    "input": InputError,
    "prompt": PromptError,
    "model": ModelError,
    "output": OutputError,
    "resource": ResourceError,
    "cancelled": CancelledError,
    "service": ServiceError,
}
"""Kinds that stand for an engine's own errors: the client raises the same class the engine raised."""

SESSION_LOST = "session_lost"
RUN_LOST = "run_lost"
IMAGE_MISSING = "image_missing"
CORRUPT = "corrupt"
RECOVERABLE_KINDS = frozenset({SESSION_LOST, RUN_LOST, IMAGE_MISSING, CORRUPT})
"""The client repairs these itself: it opens the session again, sends the image or the damaged body again."""
LOADING = "loading"
"""The server is well, but its model or the image is not ready yet."""
TRANSIENT_KINDS = frozenset({"busy", "rate_limited", LOADING})
"""Refusals that pass: the client waits as long as Retry-After says and asks again."""


def error_kind(error: MedalSError) -> str:
    """Return the kind under which an engine's error travels."""
    for kind, cls in ERROR_KINDS.items():
        if type(error) is cls:
            return kind
    return next((kind for kind, cls in ERROR_KINDS.items() if isinstance(error, cls)), "service")


def to_json(message: Any) -> dict[str, Any]:
    """Return a message of this module as JSON-ready values."""
    return asdict(message)


def from_json(cls: type[T], values: object) -> T:
    """Rebuild a dataclass from parsed JSON, the inverse of `to_json`; fields that are unknown here are left out.

    Args:
        cls: The dataclass: a message of this module, or `Progress`, `Report`, `Estimate`, `EngineInfo`.
        values: What `json.loads` returned.

    Raises:
        ValueError: A field is missing or not of its type.
    """
    try:
        types = field_types(cls)
        known = {name: values[name] for name in cls.__dataclass_fields__ if name in values}  # type: ignore[attr-defined, index, operator]
        return cls(**{name: _convert(types[name], value) for name, value in known.items()})
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"not the JSON of {cls.__name__}") from error


def _convert(kind: Any, value: Any) -> Any:
    """Return a JSON value as the annotated type of a field; raises TypeError or ValueError if it is of another one."""
    origin, arguments = get_origin(kind), get_args(kind)
    if is_dataclass(kind):
        return from_json(kind, value)  # type: ignore[arg-type]  # a class, not an instance
    if origin in (Union, UnionType):  # only "X | None" is used
        return None if value is None else _convert(arguments[0], value)
    if origin is tuple and isinstance(value, list | tuple):
        kinds = arguments[:1] * len(value) if arguments[-1] is Ellipsis else arguments
        return tuple(_convert(kind, item) for kind, item in zip(kinds, value, strict=True))
    if origin in (dict, Mapping):
        return {str(name): _convert(arguments[1], item) for name, item in value.items()}
    if origin is Literal and value in arguments:
        return value
    if kind is float and isinstance(value, int):
        return float(value)
    if kind is not Any and not isinstance(value, kind):
        raise TypeError(f"not {kind}")
    return value
