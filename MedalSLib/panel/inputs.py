"""The chosen volume in words, and the modalities to choose from."""

from __future__ import annotations

from MedalSLib.panel.i18n import tr as _
from MedalSLib.panel.messages import Message
from MedalSLib.panel.volume_facts import VolumeFacts
from MedalSLib.vocabulary import MODALITIES


def volumeMessage(facts: VolumeFacts | None) -> Message:
    """Return what to say below the volume selector."""
    if facts is None:
        return Message(_("Load an image, then choose it here."), "info")
    if facts.problem:
        return Message(facts.problem, "error")
    if facts.remark:
        return Message(facts.remark, "warning")
    size = " x ".join(str(count) for count in facts.shape)
    spacing = " x ".join(f"{step:.3g}" for step in facts.spacing)
    return Message(_("{size} voxels of {spacing} mm").format(size=size, spacing=spacing))


def modalityMessage(facts: VolumeFacts | None, chosen: str) -> Message:
    """Return what to say below the modality: why it is taken for that, and whether to check it."""
    if facts is None or facts.problem or not facts.modality:
        return Message()
    if chosen and chosen != facts.modality:
        text = _("Chosen by you; the image looks like {modality}.").format(modality=facts.modality)
        return Message(text, "warning" if facts.certain else "info")
    return Message(facts.reason, "info" if facts.certain or chosen else "warning")


def modalityChoices(detected: str) -> tuple[tuple[str, str], ...]:
    """Return (value, label) of each modality to choose; the empty value stands for the detected one."""
    automatic = _("{modality} (detected)").format(modality=detected) if detected else _("Detect")
    return (("", automatic), *((name, name) for name in MODALITIES))


def windowChoices() -> tuple[tuple[str, str], ...]:
    """Return (value, label) of each intensity window to choose; the empty value is each structure's own."""
    return (
        ("", _("each structure's own")),
        ("soft tissue", _("soft tissue")),
        ("lung", _("lung")),
        ("bone", _("bone")),
        ("brain", _("brain")),
        ("percentile", _("the image's own range")),
    )
