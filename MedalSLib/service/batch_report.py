"""What a batch has found, for a person: a table, and a page of pictures with what to look at first on top.

What is worth a look is found without knowing the truth: structures that reach the image's edge although they do not in
most other studies, volumes far from those of the other studies, structures that are missing where most have them.
"""

from __future__ import annotations

import csv
import html
import io
import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

import numpy as np

from MedalSLib.atomic_files import write_text
from MedalSLib.html_page import page, table, zoomable
from MedalSLib.service.batch_files import StudyOutcome
from MedalSLib.volume.files import replacing
from MedalSLib.volume.geometry import NetworkFrame
from MedalSLib.volume.image import Image
from MedalSLib.volume.mask import BoxMask
from MedalSLib.volume.preview import best_slices, scaled_picture, usual_window
from MedalSLib.volume.segment_info import SegmentInfo, completed
from MedalSLib.volume.windows import apply_window, resolved

TABLE, PAGE, PICTURES = "summary.csv", "summary.html", "thumbnails"
_LONGEST_SIDE = 192
_FEWEST = 5
"""Studies with a structure from which on their volumes tell what is usual."""
_FAR = 3.5
"""Robust standard deviations of the logarithm of a volume that are far from the rest."""
_LEAST_SPREAD = 0.1


def save_thumbnail(
    path: Path, image: Image, masks: Mapping[str, BoxMask], infos: Mapping[str, SegmentInfo | None]
) -> None:
    """Save a small picture: the coronal slice with most of the masks, head up, the patient's left to the right.

    Args:
        path: A .png file; replaced if it is there.
        image: The study.
        masks: Masks (K, J, I) by name.
        infos: Colours by name.

    Raises:
        OutputError: It cannot be written.
    """
    from matplotlib.image import imsave

    frame = NetworkFrame(image.grid)
    turned = [frame.mask_to_network(mask) for mask in masks.values()]
    array = frame.to_network(image.array_kji)
    row = best_slices(turned, array.shape)[1]
    window = resolved(usual_window(image.array_kji), image.array_kji)
    grey = apply_window(array[:, row], window, "uint8")
    picture = np.repeat(grey[..., None].astype(np.float32), 3, axis=2)
    for index, (name, mask) in enumerate(zip(masks, turned, strict=True)):
        color = completed(infos.get(name), index).color or (1.0, 1.0, 1.0)
        plane = mask.array(((0, mask.shape[0]), (row, row + 1), (0, mask.shape[2])))[:, 0]
        picture[plane] = 0.5 * picture[plane] + 127.5 * np.asarray(color, dtype=np.float32)
    z, _, x = frame.spacing_dhw
    with replacing(path, True) as draft:
        imsave(draft, scaled_picture(picture[::-1].astype(np.uint8), z, x, _LONGEST_SIDE), format="png")


def reasons_to_look(outcomes: Sequence[StudyOutcome]) -> dict[str, tuple[str, ...]]:
    """Return why each study is worth a look, by its path; studies that are like the others have no reason."""
    done = [outcome for outcome in outcomes if outcome.state == "done"]
    reasons: dict[str, list[str]] = {outcome.study: [] for outcome in outcomes}
    for outcome in outcomes:
        if outcome.state == "failed":
            reasons[outcome.study].append(f"failed: {outcome.cause}")
    for name in dict.fromkeys(name for outcome in done for name in outcome.structures or {}):
        having = [outcome for outcome in done if (outcome.structures or {}).get(name, 0.0) > 0.0]
        cut = [outcome for outcome in having if name in outcome.edges]
        if cut and len(cut) <= max(1, len(having) // 2):
            for outcome in cut:
                reasons[outcome.study].append(f"{name} reaches the edge of the image")
        asked = [outcome for outcome in done if name in (outcome.structures or {})]
        if 2 * len(having) > len(asked):
            for outcome in asked:
                if (outcome.structures or {})[name] <= 0.0:
                    reasons[outcome.study].append(f"no {name}")
        for outcome, size in _far_from_the_rest(name, having):
            reasons[outcome.study].append(f"{name} is {size} than in the other studies")
    return {study: tuple(why) for study, why in reasons.items()}


def _far_from_the_rest(name: str, having: Sequence[StudyOutcome]) -> list[tuple[StudyOutcome, str]]:
    if len(having) < _FEWEST:
        return []
    sizes = [math.log((outcome.structures or {})[name]) for outcome in having]
    middle = statistics.median(sizes)
    spread = max(_LEAST_SPREAD, 1.4826 * statistics.median(abs(size - middle) for size in sizes))
    far = zip(having, sizes, strict=True)
    return [(one, "larger" if size > middle else "smaller") for one, size in far if abs(size - middle) > _FAR * spread]


def write_summary(folder: Path, outcomes: Sequence[StudyOutcome]) -> None:
    """Write the table and the page of all studies of a batch, those worth a look first.

    Args:
        folder: The results' folder.
        outcomes: The last outcome of each study.

    Raises:
        OutputError: They cannot be written.
    """
    reasons = reasons_to_look(outcomes)
    ordered = sorted(outcomes, key=lambda one: (one.state != "failed", -len(reasons[one.study]), one.study))
    names = list(dict.fromkeys(name for outcome in ordered for name in outcome.structures or {}))
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(
        ["study", "state", "look at", "result", "seconds", *(f"{name} (ml)" for name in names), "notes", "cause"]
    )
    for outcome in ordered:
        volumes = [_volume(outcome, name) for name in names]
        why, notes = "; ".join(reasons[outcome.study]), "; ".join(outcome.notes)
        cause = f"{outcome.cause} {outcome.remedy}".strip()
        lines.writerow(
            [outcome.study, outcome.state, why, outcome.result, f"{outcome.seconds:g}", *volumes, notes, cause]
        )
    write_text(folder / TABLE, text.getvalue())
    write_text(folder / PAGE, _page(folder, ordered, names, reasons))


def _volume(outcome: StudyOutcome, name: str) -> str:
    volume = (outcome.structures or {}).get(name)
    return "" if volume is None else f"{volume:.4g}"


def _page(
    folder: Path, ordered: Sequence[StudyOutcome], names: Sequence[str], reasons: Mapping[str, tuple[str, ...]]
) -> str:
    worth = sum(bool(reasons[outcome.study]) for outcome in ordered)
    failed = sum(outcome.state == "failed" for outcome in ordered)
    rows = []
    for outcome in ordered:
        picture = thumbnail_of(outcome.result)
        shown = zoomable(quote(picture)) if (folder / picture).is_file() else ""
        why = "<br>".join(html.escape(reason) for reason in (*reasons[outcome.study], *outcome.notes))
        volumes = "".join(f'<td class="n">{_volume(outcome, name)}</td>' for name in names)
        kind = ' class="look"' if reasons[outcome.study] else ""
        study = html.escape(outcome.study)
        rows.append(f"<tr{kind}><td>{shown if outcome.result else ''}</td><td>{study}</td><td>{why}</td>{volumes}</tr>")
    return page(
        "Batch",
        f"<h1>{len(ordered)} studies</h1><p>{failed} failed; {worth} to look at first, which come first.</p>",
        table(("", "study", "look at", *(f"{name} (ml)" for name in names)), rows),
    )


def thumbnail_of(result: str) -> str:
    """Return the path of a result's picture, relative to the results' folder."""
    return f"{PICTURES}/{result}.png"
