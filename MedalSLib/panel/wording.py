"""Progress, cost and results in the user's words."""

from __future__ import annotations

import math

from MedalSLib.panel.i18n import tr as _
from MedalSLib.run import Estimate, Progress


def progressText(event: Progress) -> str:
    """Return a progress event as one line: what, which patch, how long still."""
    parts = [stageText(event.stage)]
    if event.patches > 1:
        parts.append(_("patch {done} of {total}").format(done=event.patch, total=event.patches))
    if event.seconds_left is not None:
        parts.append(_("about {time} left").format(time=durationText(event.seconds_left)))
    return " · ".join(parts)


def stageText(stage: str) -> str:
    """Return an engine's stage in words; one that is not known is shown as the engine says it.

    Structures that need another intensity window are run after the first ones: "stage 1, window 2".
    """
    name, _comma, window = stage.partition(", window ")
    known = {
        "stage 1": _("Finding the structures"),
        "stage 2": _("Drawing their outlines"),
        "refining": _("Refining around your corrections"),
        "finishing": _("Finishing"),
        "reverting": _("Taking the result back"),
    }
    words = known.get(name, name[:1].upper() + name[1:])
    return _("{stage}, intensity window {number}").format(stage=words, number=window) if window else words


def sideText(side: str) -> str:
    """Return a side of the scan in words, as of `StructureReport.cut_off`."""
    known = {
        "head": _("above"),
        "feet": _("below"),
        "left": _("on the left"),
        "right": _("on the right"),
        "front": _("in front"),
        "back": _("behind"),
    }
    return known.get(side, side)


def estimateText(estimate: Estimate, device: str) -> str:
    """Return what a run will cost as one line."""
    time = (
        _("time not known yet")
        if estimate.seconds is None
        else _("about {time}").format(time=durationText(estimate.seconds))
    )
    text = _("{time}, {memory} of memory on {device}").format(
        time=time, memory=bytesText(estimate.memory_mb * 2**20), device=device
    )
    if not estimate.fits:
        text += ". " + _("That is more than is free now: the run will work in smaller steps and take longer.")
    return text[:1].upper() + text[1:]


def durationText(seconds: float) -> str:
    """Return a duration, rounded as a person would say it."""
    if seconds < 1:
        return _("1 s")
    if seconds < 90:
        step = 1 if seconds < 10 else 5
        return _("{count} s").format(count=math.ceil(seconds / step) * step)
    if seconds < 5400:
        return _("{count} min").format(count=math.ceil(seconds / 60))
    return _("{count:.1f} h").format(count=seconds / 3600)


def bytesText(count: float) -> str:
    """Return a size in the unit that suits it."""
    if count < 1000 * 2**20:
        return _("{count:.0f} MB").format(count=max(count / 2**20, 1))
    return _("{count:.1f} GB").format(count=count / 2**30)


def volumeText(millilitres: float) -> str:
    """Return a structure's volume with as many digits as are worth reading."""
    digits = 2 if millilitres < 10 else 1 if millilitres < 100 else 0
    return f"{millilitres:.{digits}f} ml"
