"""Consent before the first upload to a server: what is sent, and where; asked once for each host."""

from __future__ import annotations

from MedalSLib.panel.panel_settings import Settings
from MedalSLib.panel.signal import Signal
from MedalSLib.service.describing import UploadDescription


class ConsentPresenter:
    """Remembers which servers may get images, and holds the question that waits for an answer.

    Args:
        settings: Keeps the servers' names.

    Attributes:
        changed: Emitted when a question came or went, or a server was forgotten.
        question: The upload that waits for an answer, None if there is none.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.changed = Signal()
        self.question: UploadDescription | None = None

    @property
    def hosts(self) -> tuple[str, ...]:
        """Servers that may get images."""
        return self._settings.consentedHosts

    def given(self, upload: UploadDescription) -> bool:
        """Whether images may be sent there; a connection that is no longer encrypted has to be allowed again."""
        return _entry(upload) in self.hosts

    def ask(self, upload: UploadDescription) -> None:
        """Put the question."""
        self.question = upload
        self.changed.emit()

    def answer(self, allowed: bool) -> None:
        """Take the answer; a yes is remembered for this server."""
        upload, self.question = self.question, None
        if upload is not None and allowed and not self.given(upload):
            self._settings.consentedHosts = (*self.hosts, _entry(upload))
        self.changed.emit()

    def forget(self, host: str) -> None:
        """Ask again before the next upload to a server."""
        self._settings.consentedHosts = tuple(known for known in self.hosts if known != host)
        self.changed.emit()


def _entry(upload: UploadDescription) -> str:
    return upload.host if upload.encrypted else f"{upload.host} (not encrypted)"
