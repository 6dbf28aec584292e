"""Preview picture: the masks over an axial, a coronal and a sagittal slice, in radiological orientation."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from MedalSLib.atomic_files import suffix_of
from MedalSLib.errors import InputError, OutputError
from MedalSLib.volume.box import whole
from MedalSLib.volume.files import check_output, replacing
from MedalSLib.volume.geometry import Grid, NetworkFrame
from MedalSLib.volume.mask import BoxMask
from MedalSLib.volume.modality_guess import guess_modality
from MedalSLib.volume.segment_info import Color, SegmentInfo, completed
from MedalSLib.volume.windows import PERCENTILE, SOFT_TISSUE, Window, apply_window, resolved

_BACKGROUND, _TEXT, _FAINT = "#101216", "#e8eaed", "#8b929c"
_PANEL_HEIGHT, _GAP, _HEADER, _ROW = 5.2, 0.14, 0.62, 0.27  # inches
_DPI = 130
_FILL = 0.38
_VISIBLE = 12  # of 255: darker is border
_MARGIN = 4  # mm
_MAX_LEGEND = 60
_NARROWEST, _WIDEST = 0.55, 1.9


@dataclass(frozen=True)
class _Panel:
    """One slice in millimetres, rows and columns named by where they grow to."""

    title: str
    picture: np.ndarray
    masks: tuple[np.ndarray, ...]
    spacing: tuple[float, float]
    upwards: bool
    letters: tuple[str, str, str, str]

    @property
    def size(self) -> tuple[float, float]:
        """Height and width in mm."""
        rows, columns = self.picture.shape
        return rows * self.spacing[0], columns * self.spacing[1]

    @property
    def aspect(self) -> float:
        """Width over height as drawn, within limits that keep the picture readable."""
        height, width = self.size
        return min(_WIDEST, max(_NARROWEST, width / height))


def save_preview(
    path: str | os.PathLike[str],
    image_kji: np.ndarray,
    grid: Grid,
    masks: Mapping[str, np.ndarray | BoxMask],
    infos: Mapping[str, SegmentInfo] | None = None,
    window: Window | None = None,
    title: str = "",
    overwrite: bool = False,
) -> None:
    """Save a PNG with coloured masks over three slices, and a legend with volumes.

    Slices are those in which the masks are best seen.  The patient's left is on the right of the picture, the head is
    up and the front of a sagittal slice on the left; millimetres are the same in both directions of a slice.

    Args:
        path: A .png file.
        image_kji: Raw intensities (K, J, I).
        grid: Grid of image and masks.
        masks: Masks (K, J, I) by name; empty ones are named as not found.
        infos: Colours by name.
        window: Intensity window of the picture; soft tissue for CT and percentiles for the rest if None.
        title: A line above the picture.
        overwrite: Replace an existing file.

    Raises:
        InputError: The image or a mask is on another grid.
        OutputError: Not a .png, or it cannot be written.
    """
    target = check_preview_output(path, overwrite)
    frame = NetworkFrame(grid)
    for name, mask in masks.items():
        if mask.shape != grid.shape_kji:
            raise InputError(f"The mask '{name}' does not lie on the image's grid.", "Resample it first.")
    colors = [completed((infos or {}).get(name), index).color for index, name in enumerate(masks)]
    shades = resolved(window or usual_window(image_kji), image_kji)
    boxed = {name: BoxMask.of(mask) for name, mask in masks.items()}
    turned = [frame.mask_to_network(mask) for mask in boxed.values()]
    panels = _panels(frame, frame.to_network(image_kji), turned, shades)
    volumes = {name: mask.count() * grid.voxel_volume_ml for name, mask in boxed.items()}
    figure = _draw(panels, volumes, [color for color in colors if color is not None], title, str(shades))
    with replacing(target, overwrite) as temporary:
        figure.savefig(temporary, format="png", facecolor=_BACKGROUND)


def usual_window(image_kji: np.ndarray) -> Window:
    """Return the window in which a picture shows most: soft tissue for what looks like CT, percentiles for the rest."""
    return SOFT_TISSUE if guess_modality(image_kji).modality == "CT" else PERCENTILE


def check_preview_output(path: str | os.PathLike[str], overwrite: bool = False) -> Path:
    """Return `path` as a Path if `save_preview` could write there; worth calling before a long run.

    Raises:
        OutputError: Not a .png, or it cannot be written.
    """
    target = check_output(path, overwrite)
    if suffix_of(target) != ".png":
        raise OutputError(f"{target.name} is not the name of a PNG file.", "Let it end in .png.")
    return target


def scaled_picture(picture: np.ndarray, row_mm: float, column_mm: float, longest: int) -> np.ndarray:
    """Return the nearest pixels of a picture whose sides are as long as the patient's.

    Args:
        picture: Rows, columns, and colours if there are any.
        row_mm: Distance of rows.
        column_mm: Distance of columns.
        longest: Pixels of the longer side.
    """
    height, width = picture.shape[0] * row_mm, picture.shape[1] * column_mm
    scale = longest / max(height, width)
    rows, columns = (max(1, round(side * scale)) for side in (height, width))
    row = np.minimum(np.arange(rows) * picture.shape[0] // rows, picture.shape[0] - 1)
    column = np.minimum(np.arange(columns) * picture.shape[1] // columns, picture.shape[1] - 1)
    return np.ascontiguousarray(picture[row][:, column])


def best_slices(masks: list[BoxMask], shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Return the slice along each axis in which most masks are seen, each near its largest extent; else the middle."""
    scores = [np.zeros(size) for size in shape]
    for mask in masks:
        if mask.box is None:
            continue
        part = mask.crop()
        for axis, score in enumerate(scores):
            area = part.sum(axis=tuple(other for other in range(3) if other != axis))
            score[slice(*mask.box[axis])] += np.sqrt(
                area / area.max()
            )  # the root favours many structures over large ones
    d, h, w = (int(score.argmax()) if score.any() else score.size // 2 for score in scores)
    return d, h, w


def _panels(frame: NetworkFrame, image: np.ndarray, masks: list[BoxMask], window: Window) -> list[_Panel]:
    d, h, w = best_slices(masks, image.shape)
    z, y, x = frame.spacing_dhw
    cuts = [
        ("Axial", 0, d, (y, x), False, ("A", "L", "P", "R")),
        ("Coronal", 1, h, (z, x), True, ("S", "L", "I", "R")),
        ("Sagittal", 2, w, (z, y), True, ("S", "P", "I", "A")),
    ]
    panels = []
    for title, axis, index, spacing, upwards, letters in cuts:
        picture = apply_window(image.take(index, axis), window, "uint8")
        planes = tuple(_plane(mask, axis, index) for mask in masks)
        panels.append(_cropped(_Panel(title, picture, planes, spacing, upwards, letters)))
    return panels


def _plane(mask: BoxMask, axis: int, index: int) -> np.ndarray:
    """Return one slice of a mask as a boolean array of two axes."""
    bounds = list(whole(mask.shape))
    bounds[axis] = (index, index + 1)
    return mask.array((bounds[0], bounds[1], bounds[2])).squeeze(axis)


def _cropped(panel: _Panel) -> _Panel:
    """Cut away the dark border around the body, but nothing of a mask."""
    content = panel.picture > _VISIBLE
    for mask in panel.masks:
        content = content | mask
    parts = []
    for axis, size in enumerate(content.shape):
        share = content.mean(axis=1 - axis)
        any_mask = np.zeros(size, bool)
        for mask in panel.masks:
            any_mask |= mask.any(axis=1 - axis)
        hit = np.flatnonzero((share > 0.01) | any_mask)
        margin = max(1, round(_MARGIN / panel.spacing[axis]))
        parts.append(slice(max(0, hit[0] - margin), hit[-1] + 1 + margin) if hit.size > 2 else slice(0, size))
    part = tuple(parts)
    masks = tuple(mask[part] for mask in panel.masks)
    return _Panel(panel.title, panel.picture[part], masks, panel.spacing, panel.upwards, panel.letters)


def _draw(panels: list[_Panel], volumes: dict[str, float], colors: list[Color], title: str, window: str) -> Any:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    width = sum(panel.aspect for panel in panels) * _PANEL_HEIGHT + _GAP * (len(panels) + 1)
    columns = max(1, int(width / 3.6))
    rows = -(-min(len(volumes), _MAX_LEGEND + 1) // columns)
    height = _HEADER + _PANEL_HEIGHT + 0.25 + rows * _ROW + 0.2
    figure = Figure(figsize=(width, height), dpi=_DPI, facecolor=_BACKGROUND)
    FigureCanvasAgg(figure)
    left = _GAP
    for panel in panels:
        box = (left / width, 1 - (_HEADER + _PANEL_HEIGHT) / height)
        axes = figure.add_axes((*box, panel.aspect * _PANEL_HEIGHT / width, _PANEL_HEIGHT / height))
        _draw_panel(axes, panel, colors)
        figure.text(
            left / width,
            1 - (_HEADER - 0.1) / height,
            panel.title,
            color=_TEXT,
            fontsize=11,
            weight="bold",
            va="bottom",
        )
        left += panel.aspect * _PANEL_HEIGHT + _GAP
    heading = title or ("Medal S" if volumes else "")
    figure.text(0.5, 1 - 0.12 / height, heading, color=_TEXT, fontsize=12, ha="center", va="top", parse_math=False)
    figure.text(1 - _GAP / width, 1 - 0.12 / height, window, color=_FAINT, fontsize=9, ha="right", va="top")
    if volumes:
        _draw_legend(figure, volumes, colors, columns)
    return figure


def _draw_panel(axes: Any, panel: _Panel, colors: list[Color]) -> None:
    from matplotlib.patheffects import withStroke

    height, width = panel.size
    extent = (0, width, 0, height) if panel.upwards else (0, width, height, 0)
    origin = "lower" if panel.upwards else "upper"
    axes.set_facecolor("black")
    axes.imshow(
        panel.picture, cmap="gray", vmin=0, vmax=255, extent=extent, origin=origin, interpolation="bicubic", zorder=0
    )
    y = (np.arange(panel.picture.shape[0]) + 0.5) * panel.spacing[0]
    x = (np.arange(panel.picture.shape[1]) + 0.5) * panel.spacing[1]
    order = sorted(range(len(panel.masks)), key=lambda index: -int(np.count_nonzero(panel.masks[index])))
    for index in order:  # small structures over large ones
        mask = panel.masks[index]
        if not mask.any() or min(mask.shape) < 2:
            continue
        color = tuple(channel / 255 for channel in colors[index])
        inside = mask.astype(np.float32)
        axes.contourf(x, y, inside, levels=[0.5, 1.5], colors=[color], alpha=_FILL, zorder=1)
        axes.contour(x, y, inside, levels=[0.5], colors=[color], linewidths=1.3, zorder=2)
    axes.set(xlim=extent[:2], ylim=extent[2:], aspect="equal", xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    places = ((0.5, 0.985, "center", "top"), (0.985, 0.5, "right", "center"), (0.5, 0.015, "center", "bottom"),
              (0.015, 0.5, "left", "center"))  # fmt: skip
    for letter, (at_x, at_y, horizontal, vertical) in zip(panel.letters, places, strict=True):
        axes.text(
            at_x,
            at_y,
            letter,
            transform=axes.transAxes,
            color=_TEXT,
            fontsize=10,
            ha=horizontal,
            va=vertical,
            zorder=4,
            path_effects=[withStroke(linewidth=2.5, foreground=_BACKGROUND)],
        )
    _draw_scale(axes, panel)


def _draw_scale(axes: Any, panel: _Panel) -> None:
    """Draw a bar of a round length, about a fifth of the width."""
    height, width = panel.size
    length = max((step for step in (1, 2, 5, 10, 20, 50, 100, 200) if step <= width / 4), default=width / 4)
    start = width * 0.04
    level = height * (0.04 if panel.upwards else 0.96)
    label = f"{length / 10:g} cm" if length >= 10 else f"{length:g} mm"
    axes.plot([start, start + length], [level, level], color=_TEXT, linewidth=2, solid_capstyle="butt", zorder=4)
    offset = height * (0.015 if panel.upwards else -0.015)
    axes.text(start, level + offset, label, color=_TEXT, fontsize=8, ha="left", va="bottom", zorder=4)


def _draw_legend(figure: Any, volumes: dict[str, float], colors: list[Color], columns: int) -> None:
    """Name each structure beside its colour, with its volume; an empty square for what was not found."""
    from matplotlib.patches import Patch

    entries = []
    for (name, volume), color in zip(list(volumes.items())[:_MAX_LEGEND], colors, strict=False):
        shade = f"#{bytes(color).hex()}"
        shown = name if len(name) <= 30 else name[:29] + "…"
        entries.append(
            Patch(
                facecolor=shade if volume else _BACKGROUND,
                edgecolor=shade if volume else _FAINT,
                label=f"{shown}  ({_volume(volume)})",
            )
        )
    if len(volumes) > _MAX_LEGEND:
        entries.append(Patch(alpha=0, label=f"and {len(volumes) - _MAX_LEGEND} more"))
    legend = figure.legend(
        handles=entries, loc="lower left", ncols=columns, frameon=False, labelcolor=_TEXT, handlelength=1.2
    )
    for text in legend.get_texts():
        text.set_parse_math(False)  # a name may contain a dollar sign


def _volume(volume: float) -> str:
    if volume == 0:
        return "not found"
    return f"{volume:,.0f} ml" if volume >= 100 else f"{volume:.3g} ml"
