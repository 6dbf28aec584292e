"""Messages to the user: a sentence and its level."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Literal

from MedalSLib.errors import CancelledError, MedalSError
from MedalSLib.panel.i18n import tr as _

Level = Literal["info", "success", "warning", "error"]


@dataclass(frozen=True)
class Message:
    """What the panel says.

    Attributes:
        text: The sentence; empty for nothing to say.
        level: How much it matters; shown by a sign as well as by a colour.
    """

    text: str = ""
    level: Level = "info"


def messageOf(error: BaseException) -> Message:
    """Return an error in the user's words: cause and remedy where they are known."""
    if isinstance(error, CancelledError):
        return Message(str(error), "info")
    if isinstance(error, MedalSError):
        return Message(str(error), "error")
    if isinstance(error, MemoryError):
        return Message(_("Not enough memory. Close other data, or choose a region of interest."), "error")
    logging.error("Unexpected error in the Medal S panel", exc_info=error)
    text = _("Something unexpected went wrong ({kind}). Copy the diagnostics on the Install page and report it.")
    return Message(text.format(kind=type(error).__name__), "error")
