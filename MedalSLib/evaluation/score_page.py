"""The page of an evaluation: means by modality and structure, and the worst results first, with pictures."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from MedalSLib.html_page import page, table, zoomable
from MedalSLib.volume.preview import scaled_picture

_LONGEST_SIDE = 448
_AGREED, _MISSED, _WRONG = (60, 180, 90), (60, 120, 255), (255, 70, 50)
_MEANS = (("dsc", "DSC"), ("nsd", "NSD"), ("f1", "F1"), ("dsc_tp", "DSC_TP"))


def overlay(
    truth_dhw: np.ndarray, found_dhw: np.ndarray, image_dhw: np.ndarray | None, spacing_dhw: Sequence[float]
) -> bytes:
    """Return the axial slice with the largest error as JPEG: agreement green, missed blue, wrong red.

    Args:
        truth_dhw: Truth (D, H, W), boolean, in LPS.
        found_dhw: Result of the same shape.
        image_dhw: Intensities 0..255 of the same shape; None for black.
        spacing_dhw: In mm.
    """
    from matplotlib.image import imsave

    wrong = truth_dhw != found_dhw
    row = int(np.count_nonzero(wrong if wrong.any() else truth_dhw, axis=(1, 2)).argmax())
    truth, found = truth_dhw[row], found_dhw[row]
    grey = np.zeros(truth.shape, np.float32) if image_dhw is None else image_dhw[row].astype(np.float32)
    picture = np.repeat(grey[..., None], 3, axis=2)
    for where, color in ((truth & found, _AGREED), (truth & ~found, _MISSED), (found & ~truth, _WRONG)):
        picture[where] = 0.45 * picture[where] + 0.55 * np.asarray(color, np.float32)
    stream = io.BytesIO()
    sized = scaled_picture(picture.astype(np.uint8), spacing_dhw[1], spacing_dhw[2], _LONGEST_SIDE)
    imsave(stream, sized, format="jpg")
    return stream.getvalue()


def score_page(report: Mapping[str, Any], pictures: Mapping[tuple[str, str], bytes]) -> str:
    """Return the page.

    Args:
        report: What `evaluate_folder` returns.
        pictures: JPEG by case and structure.
    """
    modalities = modality_means(report["summary"])
    parts = [f"<h1>{len({row['case'] for row in report['cases']})} cases</h1>"]
    heads = ("modality", "structure", "cases", *(name for _, name in _MEANS))
    rows = [_summary_row(row) for row in report["summary"]]
    if len(modalities) > 1:
        means = {key: _mean([one.get(key) for one in modalities.values()]) for key, _ in _MEANS}
        rows.append(_row(["all", f"mean of {len(modalities)} modalities", ""], means, "look"))
    parts.append(table(heads, rows))
    scored = [row for row in report["cases"] if row["truth_voxels"]]
    worst = sorted(scored, key=lambda row: (_score(row), row["case"], row["structure"]))
    parts.append("<h2>Worst first</h2><p>Green: agreed. Blue: missed. Red: wrong. A click makes a picture large.</p>")
    parts.append(
        table(
            ("", "case", "structure", *(name for _, name in _MEANS), "note"),
            (_case_row(row, pictures.get((row["case"], row["structure"]))) for row in worst),
        )
    )
    for case in report["failed"]:
        parts.append(f"<p>{html.escape(case['case'])} was not scored: {html.escape(case['reason'])}</p>")
    return page("Scores", *parts)


def modality_means(summary: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float | None]]:
    """Return each modality's means over its cases: DSC and NSD of semantic targets, F1 and DSC_TP of instances.

    Args:
        summary: The entry "summary" of a report.
    """
    means: dict[str, dict[str, float | None]] = {}
    for row in summary:
        if row["structure"] == "all":
            means.setdefault(row["modality"], {}).update(
                {key: value for key, value in _scores(row).items() if value is not None}
            )
    return means


def _scores(row: Mapping[str, Any]) -> dict[str, float | None]:
    """Return the scores of a row; the Dice of instances counts over the matched pairs alone, so it has its own name."""
    if row["kind"] == "instance":
        return {"f1": row["f1"], "dsc_tp": row["dsc"]}
    return {"dsc": row["dsc"], "nsd": row["nsd"]}


def _score(row: Mapping[str, Any]) -> float:
    value = row["f1"] if row["kind"] == "instance" else row["dsc"]
    return -1.0 if value is None else float(value)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known else None


def _summary_row(row: Mapping[str, Any]) -> str:
    name = row["structure"] if row["kind"] == "semantic" else f"{row['structure']} (instances)"
    kind = "look" if row["structure"] == "all" else ""
    return _row([row["modality"] or "-", name, str(row["cases"])], _scores(row), kind)


def _case_row(row: Mapping[str, Any], picture: bytes | None) -> str:
    source = "" if picture is None else f"data:image/jpeg;base64,{base64.b64encode(picture).decode()}"
    shown = "" if picture is None else zoomable(source)
    cells = "".join(f"<td>{html.escape(text)}</td>" for text in (row["case"], row["structure"]))
    return f"<tr><td>{shown}</td>{cells}{_numbers(_scores(row))}<td>{html.escape(row['note'])}</td></tr>"


def _row(texts: Sequence[str], scores: Mapping[str, float | None], kind: str) -> str:
    cells = "".join(f"<td>{html.escape(text)}</td>" for text in texts)
    shade = f' class="{kind}"' if kind else ""
    return f"<tr{shade}>{cells}{_numbers(scores)}</tr>"


def _numbers(scores: Mapping[str, float | None]) -> str:
    texts = ("" if (value := scores.get(key)) is None else f"{value:.4f}" for key, _ in _MEANS)
    return "".join(f'<td class="n">{text}</td>' for text in texts)
