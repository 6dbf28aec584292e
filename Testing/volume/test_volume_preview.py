"""The preview shows every structure where it is, as radiologists look at images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from MedalSLib.errors import InputError, OutputError
from MedalSLib.volume import Grid
from MedalSLib.volume.mask import BoxMask
from MedalSLib.volume.preview import best_slices, save_preview
from MedalSLib.volume.reading import read_image
from MedalSLib.volume.segment_info import SegmentInfo
from MedalSLib.volume.segmentation import Segmentation
from MedalSLib.volume.segmentation_reading import read_segmentation

pytestmark = pytest.mark.slow


def infos_of(found: Segmentation) -> dict[str, SegmentInfo]:
    return {segment.name: SegmentInfo(segment.color, segment.terminology) for segment in found.segments}


RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)
INFOS = {"left": SegmentInfo(RED), "front": SegmentInfo(GREEN), "head": SegmentInfo(BLUE)}


def body(grid: Grid) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """A grey block with a ball at its left, its front and its head end, the same in the patient on every grid."""
    k, j, i = np.indices(grid.shape_kji)
    position = grid.index_to_ras(np.stack([i, j, k], -1)) - grid.corners_ras().mean(axis=0)

    def ball(*centre: float) -> np.ndarray:
        return np.linalg.norm(position - centre, axis=-1) < 9

    rng = np.random.default_rng(0)
    image = rng.integers(20, 60, grid.shape_kji).astype(np.int16)
    image[0, 0, 0] = -1000
    return image, {"left": ball(-20, 0, 0), "front": ball(0, 20, 0), "head": ball(0, 0, 20)}


def grid_of(code: str) -> Grid:
    unit = {"R": (1, 0, 0), "L": (-1, 0, 0), "A": (0, 1, 0), "P": (0, -1, 0), "S": (0, 0, 1), "I": (0, 0, -1)}
    spacing = {"R": 2, "L": 2, "A": 2, "P": 2, "S": 4, "I": 4}
    affine = np.eye(4)
    affine[:3, :3] = np.array([np.multiply(unit[letter], spacing[letter]) for letter in code]).T
    size = {letter: (16 if spacing[letter] == 4 else 32) for letter in code}
    return Grid((size[code[2]], size[code[1]], size[code[0]]), affine)


def centre_of(picture: np.ndarray, channel: int, columns: slice) -> tuple[float, float] | None:
    rgb = picture[:, columns, :3]
    others = np.delete(rgb, channel, axis=-1).max(axis=-1)
    rows, cols = np.nonzero((rgb[..., channel] > 0.6) & (others < 0.35))
    return (float(rows.mean()), float(cols.mean())) if rows.size > 20 else None


@pytest.mark.parametrize("code", ["LPS", "RAS", "LAI", "PIR", "SLA"])
def test_left_is_right_front_is_up_and_the_head_is_up_on_every_grid(tmp_path: Path, code: str) -> None:
    from matplotlib.image import imread

    grid = grid_of(code)
    image, masks = body(grid)
    save_preview(tmp_path / "p.png", image, grid, masks, INFOS)
    picture = imread(tmp_path / "p.png")
    panels = picture[: int(picture.shape[0] * 0.88)]
    third = panels.shape[1] // 3
    axial, coronal, sagittal = slice(0, third), slice(third, 2 * third), slice(2 * third, None)
    middle_row, middle = panels.shape[0] / 2, third / 2
    left, front = centre_of(panels, 0, axial), centre_of(panels, 1, axial)
    assert left is not None and left[1] > middle + 50
    assert front is not None and front[0] < middle_row - 50
    head = centre_of(panels, 2, coronal)
    assert head is not None and head[0] < middle_row - 50
    nose = centre_of(panels, 1, sagittal)
    assert nose is not None and nose[1] < middle - 50


def test_slices_are_those_in_which_most_masks_are_seen() -> None:
    masks = [np.zeros((10, 11, 12), bool) for _ in range(3)]
    masks[0][7, 2, 3] = masks[1][7, 2, 5] = True
    masks[2][1:3] = True
    assert best_slices([BoxMask.of(mask) for mask in masks[:2]], (10, 11, 12))[:2] == (7, 2)
    assert best_slices([], (10, 11, 12)) == (5, 5, 6)
    assert best_slices([BoxMask.empty((10, 11, 12))], (10, 11, 12)) == (5, 5, 6)


def test_a_real_chest_ct_is_drawn(tmp_path: Path, chest: Path) -> None:
    image, found = read_image(chest / "CTChest4.nrrd"), read_segmentation(chest / "Segmentation.seg.nrrd")
    save_preview(tmp_path / "p.png", image.array_kji, image.grid, found.masks, infos_of(found), title="Chest $x_y$")
    assert (tmp_path / "p.png").read_bytes()[:4] == b"\x89PNG"
    assert len(list(tmp_path.iterdir())) == 1


def test_no_masks_thin_images_and_many_names_are_drawn_too(tmp_path: Path) -> None:
    grid = grid_of("LPS")
    image, masks = body(grid)
    save_preview(tmp_path / "a.png", image, grid, {})
    many = {f"a structure with a very long name, number {n}": masks["left"] & (n < 3) for n in range(75)}
    save_preview(tmp_path / "b.png", image, grid, {**many, "absent": np.zeros_like(masks["left"])})
    thin = Grid((2, 32, 32), grid.affine_ras)
    save_preview(tmp_path / "c.png", image[:2], thin, {"left": masks["left"][7:9]})
    assert len(list(tmp_path.iterdir())) == 3


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    grid = grid_of("LPS")
    image, masks = body(grid)
    with pytest.raises(OutputError, match="PNG"):
        save_preview(tmp_path / "a.jpg", image, grid, masks)
    with pytest.raises(InputError, match="'left'"):
        save_preview(tmp_path / "a.png", image, grid, {"left": masks["left"][1:]})
    (tmp_path / "a.png").write_bytes(b"mine")
    with pytest.raises(OutputError, match="exists"):
        save_preview(tmp_path / "a.png", image, grid, masks)
    assert (tmp_path / "a.png").read_bytes() == b"mine"
