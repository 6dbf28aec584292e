"""Images and sessions in memory: owned by a key, inside a budget, freed when their client is gone.

Everything is looked up by (owner, identifier), so what belongs to another key looks exactly like what does not exist.
Memory is granted before it is taken, also that of requests on their way; `Store.make_room` decides what is evicted
first.  No key gets more than its share.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

from MedalSLib.engine.interface import Session
from MedalSLib.service import protocol
from MedalSLib.service.encoding import DamagedError, chunk_bounds, decode_chunk, image_bytes, image_digest
from MedalSLib.service.http_errors import (
    HttpError,
    invalid,
    memory_ran_out,
    session_lost,
    too_large,
    try_later,
)
from MedalSLib.service.logs import log_exception
from MedalSLib.service.sessions import OpenSession, Run, StoredImage
from MedalSLib.service.settings import MEBIBYTE, Settings

Opener = Callable[[np.ndarray, np.ndarray, str | None], Session]
KEPT_RUNS = 2
"""Ended runs whose result is kept for a client that has not fetched it yet."""
IMAGES_PER_KEY = 128


class Store:
    """The images and sessions of all keys.

    Args:
        settings: Limits.
        on_evict: Told what was evicted ("result", "image", "session"), for the metrics.
        clock: Monotonic seconds.
        share: Part of the budget that one key may hold now.
    """

    def __init__(
        self,
        settings: Settings,
        on_evict: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
        share: Callable[[], float] = lambda: 1.0,
    ) -> None:
        self._settings = settings
        self._limit = settings.memory_limit
        self._share = share
        self._on_evict = on_evict
        self._clock = clock
        self._lock = threading.RLock()
        self._images: dict[tuple[str, str], StoredImage] = {}
        self._sessions: dict[tuple[str, str], OpenSession] = {}
        self._transient: Counter[str] = Counter()
        self._lending = threading.Lock()  # never held for long: the event loop gives memory back
        self._closing: list[OpenSession] = []

    # ------------------------------------------------------------------ budget

    def used_bytes(self, owner: str | None = None) -> int:
        """Return the memory granted now, to one key or to all."""
        with self._lock:
            sessions = [*self._sessions.values(), *(one for one in self._closing if one.busy)]
            images = {id(image): image for image in [*self._images.values(), *(one.image for one in sessions)]}
            held: list[StoredImage | OpenSession] = [*images.values(), *sessions]
            mine = [one.bytes for one in held if owner is None or one.owner == owner]
            with self._lending:
                return sum(mine) + (self._transient.total() if owner is None else self._transient[owner])

    def session_count(self) -> int:
        """Return the number of open sessions."""
        with self._lock:
            return len(self._sessions)

    @contextmanager
    def reserved(self, owner: str, size: int) -> Iterator[None]:
        """Grant memory for the length of a block.

        Raises:
            HttpError: It does not fit, whatever is evicted.
        """
        self.take(owner, size)
        try:
            yield
        finally:
            self.give_back(owner, size)

    def take(self, owner: str, size: int) -> None:
        """Grant memory until it is given back.

        Raises:
            HttpError: It does not fit, whatever is evicted.
        """
        with self._lock:
            self.make_room(owner, size)
            with self._lending:
                self._transient[owner] += size

    def give_back(self, owner: str, size: int) -> None:
        """Take granted memory back."""
        with self._lending:
            self._transient[owner] -= size
            if not self._transient[owner]:
                del self._transient[owner]

    def make_room(self, owner: str, size: int) -> None:
        """Free memory until `size` more bytes fit, the cheapest losses first.

        First what costs nothing (results that were fetched, images no session uses, abandoned uploads), then the
        owner's own sessions that were not used for the longest time, then those of other keys unless they were used
        a moment ago.  A session with a run is never evicted.

        Raises:
            HttpError: 413 if it can never fit, 429 if the key holds its share, 503 if it does not fit now.
        """
        share = int(self._limit * self._share())
        if size > share:
            raise too_large(
                f"This needs {size // MEBIBYTE} MiB, but the server gives {share // MEBIBYTE} MiB at most.",
                "Crop the image, or ask the administrator for a larger memory budget.",
            )
        with self._lock:
            while share < self._limit and self.used_bytes(owner) + size > share:
                if not self._evict_one(owner, own_only=True):
                    full = "This key's share of the server's memory is full with images that are in use."
                    raise try_later(429, full, "Try again when your other runs have finished.", 10.0)
            while self.used_bytes() + size > self._limit:
                if not self._evict_one(owner):
                    full = "The server's memory is full with images that are in use."
                    raise try_later(503, full, "Try again when other users have finished.", 10.0)
        self.close_evicted()

    def relieve(self) -> None:
        """Free everything that no run needs, after the memory ran out in spite of the budget."""
        with self._lock:
            while self._evict_one("", protect=0.0):
                pass
        self.close_evicted()

    def _evict_one(self, owner: str, protect: float | None = None, own_only: bool = False) -> bool:
        """Free the cheapest thing, only the owner's if wanted; returns whether there was any."""
        now = self._clock()
        protect = self._settings.protect_seconds if protect is None else protect
        sessions = [one for one in self._sessions.values() if not own_only or one.owner == owner]
        for session in sessions:
            for run_id, run in session.runs.items():
                if run.ended and run.fetched:
                    del session.runs[run_id]
                    self._on_evict("result")
                    return True
        in_use = {id(session.image) for session in self._sessions.values()}
        images = [
            image
            for image in self._images.values()
            if id(image) not in in_use
            and (image.complete or now - image.last_used >= protect)
            and (not own_only or image.owner == owner)
        ]
        if images:
            self._drop_image(min(images, key=lambda image: image.last_used))
            return True
        idle = [session for session in sessions if not session.busy]
        own = [session for session in idle if session.owner == owner]
        others = [session for session in idle if now - session.last_used >= protect]
        if own or others:
            self._drop(min(own or others, key=lambda session: session.last_used))
            self._on_evict("session")
            return True
        return False

    def _drop_image(self, image: StoredImage) -> None:
        del self._images[image.owner, image.digest]
        self._on_evict("image")

    # ------------------------------------------------------------------ images

    def announce_image(self, owner: str, digest: str, header: protocol.ImageHeader) -> protocol.ImageStatus:
        """Make room for an image, or say what is missing of one that was announced before.

        Args:
            owner: Name of the key.
            digest: The image's address.
            header: Its type and shape.

        Raises:
            HttpError: Not an image, too large, or no memory.
        """
        try:
            size = image_bytes(header.dtype, header.shape)
        except DamagedError as error:
            raise invalid(str(error)) from error
        if size > self._settings.image_bytes:
            raise too_large(
                f"The image has {size // MEBIBYTE} MiB, the server takes {self._settings.image_bytes // MEBIBYTE} MiB.",
                "Crop the image.",
            )
        with self._lock:
            image = self._images.get((owner, digest))
            if image is None:
                self._limit_images(owner)
                self.make_room(owner, size)
                image = self._new_image(owner, digest, header, size)
                self._images[owner, digest] = image
            elif (image.dtype, image.shape) != (header.dtype, tuple(header.shape)):
                raise invalid("another image was announced under this digest")
            return self._status(image)

    def _limit_images(self, owner: str) -> None:
        """Make room for one more image among a key's own; raises if all are in use or being sent."""
        if sum(image.owner == owner for image in self._images.values()) < IMAGES_PER_KEY:
            return
        in_use = {id(session.image) for session in self._sessions.values()}
        free = [one for one in self._images.values() if one.owner == owner and one.complete and id(one) not in in_use]
        if not free:
            raise try_later(429, f"This key has {IMAGES_PER_KEY} images on the server.", "Send fewer at once.", 10.0)
        self._drop_image(min(free, key=lambda image: image.last_used))

    def _new_image(self, owner: str, digest: str, header: protocol.ImageHeader, size: int) -> StoredImage:
        data = np.empty(size, dtype=np.uint8)
        chunks = tuple(chunk_bounds(size, self._settings.chunk_bytes))
        shape = (header.shape[0], header.shape[1], header.shape[2])
        return StoredImage(owner, digest, header.dtype, shape, data, set(range(len(chunks))), chunks, self._clock())

    def image_status(self, owner: str, digest: str) -> protocol.ImageStatus:
        """Say what is missing of an image.

        Raises:
            HttpError: 404, it was never announced with this key, or was freed.
        """
        return self._status(self._image(owner, digest))

    def put_chunk(self, owner: str, digest: str, index: int, body: bytes) -> protocol.ImageStatus:
        """Store a chunk; the last one completes the image if its digest is right.

        Args:
            owner: Name of the key.
            digest: The image's address.
            index: Which chunk.
            body: The chunk, compressed.

        Raises:
            HttpError: No such image or chunk.
            DamagedError: Damaged data; all chunks are wanted again if the whole image is not the announced one.
        """
        image = self._image(owner, digest)
        if not 0 <= index < len(image.chunks):
            raise invalid(f"the image has {len(image.chunks)} chunks")
        start, stop = image.chunks[index]
        if not image.complete:
            plain = decode_chunk(body, stop - start, np.dtype(image.dtype).itemsize)
            with image.lock:
                self._accept(image, index, plain)
        return self._status(image)

    def _accept(self, image: StoredImage, index: int, plain: np.ndarray) -> None:
        if image.complete:
            return
        start, stop = image.chunks[index]
        image.data[start:stop] = plain
        if index in image.missing:  # an upload lives of what was missing, not of repetitions
            image.missing.discard(index)
            image.last_used = self._clock()
        if image.missing:
            return
        if image_digest(image.dtype, image.shape, image.data.data) != image.digest:
            image.missing = set(range(len(image.chunks)))
            raise DamagedError("the image is not the one that was announced")
        image.complete = True

    def delete_image(self, owner: str, digest: str) -> None:
        """Forget an image; sessions that use it keep it until they end."""
        with self._lock:
            self._images.pop((owner, digest), None)

    def _image(self, owner: str, digest: str) -> StoredImage:
        with self._lock:
            image = self._images.get((owner, digest))
            if image is None:
                raise HttpError(
                    404, protocol.IMAGE_MISSING, "The server does not have this image (any more).", "Send it again."
                )
            if image.complete:
                image.last_used = self._clock()
            return image

    def _status(self, image: StoredImage) -> protocol.ImageStatus:
        with image.lock:
            missing = tuple(sorted(image.missing))
        return protocol.ImageStatus(
            image.digest, self._settings.chunk_bytes, len(image.chunks), missing, image.complete
        )

    # ---------------------------------------------------------------- sessions

    def open_session(
        self, owner: str, session_id: str, request: protocol.SessionRequest, opener: Opener
    ) -> tuple[OpenSession, bool]:
        """Open a session, or return the one that was opened by an earlier try of the same request.

        Args:
            owner: Name of the key.
            session_id: Identifier the client chose.
            request: Image, affine and modality.
            opener: Opens a session of the engine.

        Returns:
            The session, and whether it is new.

        Raises:
            HttpError: Image missing, no memory, or too many sessions.
            MedalSError: The engine does not take the image.
        """
        with self._lock:
            session = self._sessions.get((owner, session_id))
            if session is not None and session.request != request:
                raise HttpError(409, "conflict", "This session was opened with another image.", "Open a new session.")
            new = session is None
            if session is None:
                session = self._grant_session(owner, session_id, request)
        if not new:
            session.opened.wait()
            if session.engine_session is None:
                raise session_lost()
            return session, False
        try:
            affine = np.array(request.affine, dtype=np.float64)
            session.engine_session = opener(session.image.array(), affine, request.modality)
        except BaseException as error:
            self._abandon(session)
            if memory_ran_out(error):
                self.relieve()
            raise
        session.opened.set()
        return session, True

    def _grant_session(self, owner: str, session_id: str, request: protocol.SessionRequest) -> OpenSession:
        image = self._images.get((owner, request.image))
        if image is None or not image.complete:
            raise HttpError(
                409, protocol.IMAGE_MISSING, "The server does not have the whole image (any more).", "Send it again."
            )
        own = [session for session in self._sessions.values() if session.owner == owner]
        if len(own) >= self._settings.sessions_per_key:
            idle = [session for session in own if not session.busy]
            if not idle:
                raise try_later(429, f"This key has {len(own)} sessions with runs.", "Wait for one to end.", 10.0)
            self._drop(min(idle, key=lambda session: session.last_used))
            self._on_evict("session")
        now = self._clock()
        cost = image.voxels * self._settings.session_voxel_bytes
        session = OpenSession(owner, session_id, request, image, cost, now, now)
        # In the table while room is made: its image is in use then, and cannot be what is evicted.
        session.cost = 0
        self._sessions[owner, session_id] = session
        try:
            self.make_room(owner, cost)
        except HttpError:
            self._abandon(session)
            raise
        session.cost = cost
        return session

    def _abandon(self, session: OpenSession) -> None:
        with self._lock:
            self._sessions.pop((session.owner, session.id), None)
        session.opened.set()

    def session(self, owner: str, session_id: str, used: bool = False) -> OpenSession:
        """Return a session and renew its lease.

        Args:
            owner: Name of the key.
            session_id: Identifier the client chose.
            used: Whether to renew the idle time too.

        Raises:
            HttpError: 404, there is no such session of this key.
        """
        with self._lock:
            session = self._sessions.get((owner, session_id))
            if session is None or session.engine_session is None:
                raise session_lost()
            session.last_contact = self._clock()
            if used:
                session.last_used = session.last_contact
            return session

    def add_run(self, session: OpenSession, run: Run) -> Run:
        """Remember a run and forget the oldest ended ones; returns the one that has this identifier already, if any.

        Raises:
            HttpError: The session was closed or evicted meanwhile, or there is no memory for what is asked.
        """
        with self._lock:
            if self._sessions.get((session.owner, session.id)) is not session:
                raise session_lost()
            known = session.runs.get(run.id)
            if known is not None:
                return known
            ended = [run_id for run_id, other in session.runs.items() if other.ended]
            for run_id in ended[: max(0, len(ended) - KEPT_RUNS + 1)]:
                del session.runs[run_id]
            # In the table while room is made: its session is in use then, and cannot be what is evicted.
            size, run.request_bytes = run.request_bytes, 0
            session.runs[run.id] = run
            try:
                self.make_room(session.owner, size)
            except HttpError:
                del session.runs[run.id]
                raise
            run.request_bytes = size
            return run

    def revoke(self, accepted: Callable[[str], bool]) -> list[OpenSession]:
        """End the sessions and forget the images of those whose keys are not accepted any more."""
        with self._lock:
            gone = [session for session in self._sessions.values() if not accepted(session.owner)]
            for session in gone:
                self._drop(session)
            for image in [image for image in self._images.values() if not accepted(image.owner)]:
                self._drop_image(image)
        self.close_evicted()
        return gone

    def close_session(self, owner: str, session_id: str) -> OpenSession | None:
        """End a session and return it; None if there was none."""
        with self._lock:
            session = self._sessions.get((owner, session_id))
            if session is not None:
                self._drop(session)
        self.close_evicted()
        return session

    def sweep(self) -> list[OpenSession]:
        """End the sessions whose client is gone or which were not used for long, and drop abandoned images."""
        now = self._clock()
        settings = self._settings
        with self._lock:
            gone = [
                session
                for session in self._sessions.values()
                if session.opened.is_set()
                and (
                    now - session.last_contact > settings.lease_seconds
                    or (not session.busy and now - session.last_used > settings.idle_seconds)
                )
            ]
            for session in gone:
                self._drop(session)
            in_use = {id(session.image) for session in self._sessions.values()}
            for image in list(self._images.values()):
                if id(image) not in in_use and now - image.last_used > settings.lease_seconds:
                    del self._images[image.owner, image.digest]
        self.close_evicted()
        return gone

    def close(self) -> None:
        """End every session."""
        with self._lock:
            for session in list(self._sessions.values()):
                self._drop(session)
            self._images.clear()
        self.close_evicted()

    def _drop(self, session: OpenSession) -> None:
        """Take a session out of the table; its runs are asked to stop, and it is closed outside of the lock."""
        del self._sessions[session.owner, session.id]
        for run in session.runs.values():
            run.request_cancel()
        self._closing.append(session)

    def close_evicted(self) -> None:
        """Close the engine's sessions that were dropped, those with a run once it has ended."""
        with self._lock:
            ready = [session for session in self._closing if not session.busy]
            self._closing = [session for session in self._closing if session.busy]
        for session in ready:
            engine_session, session.engine_session = session.engine_session, None
            if engine_session is None:
                continue
            try:
                engine_session.close()
            except Exception as error:  # the other sessions have to be closed all the same
                log_exception("session_not_closed", error, session=session.id)
