"""Both stages of the product: what is found, what is kept, and what is reported absent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from MedalSLib.errors import CancelledError, InputError, ModelError, ResourceError
from MedalSLib.inference.compute import Compute
from MedalSLib.inference.hooks import Hooks, RunKey
from MedalSLib.inference.pipeline import WindowedImage, segment_volume
from MedalSLib.inference.results import VolumeResult, merge_results
from MedalSLib.run import RunOptions
from MedalSLib.volume.mask import BoxMask

SPACING = (1.0, 1.0, 1.0)
FIRST = np.s_[4:14, 5:17, 6:18]
SECOND = np.s_[8:20, 20:32, 24:36]
QUERY = {"CT_Liver": (100.0, 30.0), "CT_Pancreas": (200.0, 30.0), "CT_Aorta": (150.0, 20.0), "CT_Cyst": (150.0, 90.0)}


@pytest.fixture
def segment(boxes_image: np.ndarray, wanted: Any) -> Callable[..., VolumeResult]:
    """Segment the image of two boxes: `segment(model, *keys, kind="semantic", image=..., **arguments)`."""

    def call(model: Any, *keys: str, kind: str = "semantic", image: Any = None, **arguments: Any) -> VolumeResult:
        queries = torch.tensor([QUERY.get(key, (100.0, 30.0)) for key in keys])
        structures = [wanted(key, kind) for key in keys]
        for name in {"masks_dhw", "locked_dhw"} & set(arguments):
            arguments[name] = {key: BoxMask.of(mask) for key, mask in arguments[name].items()}
        image = boxes_image if image is None else image
        if isinstance(image, np.ndarray):
            array = image
            image = WindowedImage(array.shape, lambda window: array)
        return segment_volume(model, image, SPACING, structures, queries, **arguments)

    return call


def box_mask(where: Any, shape: tuple[int, ...] = (24, 36, 40)) -> np.ndarray:
    mask = np.zeros(shape, dtype=bool)
    mask[where] = True
    return mask


def dice(first: np.ndarray, second: np.ndarray) -> float:
    return float(2 * (first & second).sum() / (first.sum() + second.sum()))


def test_two_stages_find_both_structures(segment: Any, band_model: Any) -> None:
    model = band_model()
    result = segment(model, "CT_Liver", "CT_Pancreas")
    assert dice(result.masks["CT_Liver"], box_mask(FIRST)) > 0.9
    assert dice(result.masks["CT_Pancreas"], box_mask(SECOND)) > 0.9
    assert np.array_equal(result.labelmap == 2, result.masks["CT_Pancreas"])
    assert result.structures["CT_Liver"].source == "stage 1"
    assert result.structures["CT_Liver"].voxels == result.masks["CT_Liver"].sum()
    assert result.structures["CT_Liver"].mean_probability > 0.9
    assert not any(model.network("1").encoded)
    assert any(model.network("2").encoded)
    assert set(result.seconds) == {"stage 1", "stage 2", "finishing"}
    assert result.runs == len(model.network("1").encoded) + len(model.network("2").encoded)


def test_what_is_not_there_is_reported_absent(segment: Any, band_model: Any) -> None:
    result = segment(band_model(), "CT_Aorta")
    assert not result.structures["CT_Aorta"].found
    assert result.structures["CT_Aorta"].mean_probability is None
    assert not result.masks["CT_Aorta"].any()
    assert not result.labelmap.any()


def test_specks_and_what_is_hardly_believed_are_absent(
    segment: Any, band_model: Any, boxes_image: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = np.zeros_like(boxes_image)
    image[5, 5, 5:11] = 100
    assert not segment(band_model(), "CT_Liver", image=image).structures["CT_Liver"].found
    image[5, 5:7, 5:11] = 100
    assert segment(band_model(), "CT_Liver", image=image).structures["CT_Liver"].found
    monkeypatch.setattr("MedalSLib.inference.finalize.LEAST_MEAN_PROBABILITY", 1.1)
    assert not segment(band_model(), "CT_Liver").structures["CT_Liver"].found
    given = {"CT_Liver": box_mask(FIRST)}
    assert segment(band_model(), "CT_Liver", masks_dhw=given).structures["CT_Liver"].found


def test_an_empty_stage_1_lets_stage_2_see_the_whole_volume(segment: Any, band_model: Any, band_network: Any) -> None:
    model = band_model()
    model.networks["1"].project = lambda voxels, embeddings: torch.full(
        (1, embeddings.shape[1], *voxels.shape[2:]), -9.0
    )
    result = segment(model, "CT_Liver")
    assert result.structures["CT_Liver"].found
    assert result.structures["CT_Liver"].source == "none"
    assert result.boxes == (((0, 24), (0, 36), (0, 40)),)
    assert not any(model.network("2").encoded)


def test_specks_of_stage_1_do_not_count_as_prompts(segment: Any, band_model: Any, boxes_image: np.ndarray) -> None:
    spacings = {"1": 1.0, "2": 1.0}
    for size, source in ((2, "none"), (4, "stage 1")):
        image = np.zeros_like(boxes_image)
        image[4 : 4 + size, 4 : 4 + size, 4 : 4 + size] = 100
        model = band_model(spacings=spacings)
        found = segment(model, "CT_Liver", image=image).structures["CT_Liver"]
        assert any(model.network("2").encoded) == (source == "stage 1")
        assert found.source == source


def test_a_mask_is_its_structures_prompt_and_stage_1_looks_for_the_others(segment: Any, band_model: Any) -> None:
    model = band_model()
    masks = {"CT_Liver": box_mask(FIRST)}
    result = segment(model, "CT_Liver", "CT_Pancreas", masks_dhw=masks)
    assert result.structures["CT_Liver"].source == "mask"
    assert result.structures["CT_Pancreas"].source == "stage 1"
    assert model.network("1").encoded
    assert dice(result.masks["CT_Pancreas"], box_mask(SECOND)) > 0.9


def test_stage_1_is_skipped_if_every_structure_has_a_mask(segment: Any, band_model: Any) -> None:
    model = band_model()
    result = segment(model, "CT_Liver", masks_dhw={"CT_Liver": box_mask(FIRST)})
    assert model.network("1").encoded == []
    assert dice(result.masks["CT_Liver"], box_mask(FIRST)) > 0.9
    assert result.boxes[0][2][1] < 40


def test_text_mode_ignores_masks(segment: Any, band_model: Any) -> None:
    model = band_model()
    masks = {"CT_Liver": box_mask(SECOND)}
    result = segment(model, "CT_Liver", masks_dhw=masks, options=RunOptions(mode="text"))
    plain = segment(band_model(), "CT_Liver")
    assert np.array_equal(result.masks["CT_Liver"], plain.masks["CT_Liver"])
    assert result.structures["CT_Liver"].source == "stage 1"


def test_an_empty_mask_prompts_nothing(segment: Any, band_model: Any) -> None:
    result = segment(band_model(), "CT_Liver", masks_dhw={"CT_Liver": np.zeros((24, 36, 40), dtype=bool)})
    assert result.structures["CT_Liver"].source == "stage 1"


def test_locked_voxels_are_kept_whatever_the_network_says(segment: Any, band_model: Any) -> None:
    mask, locked = box_mask(FIRST), np.zeros((24, 36, 40), dtype=bool)
    mask[20:24, 0:3, 0:3] = True
    mask[5, 6:9, 7:10] = False
    locked[20:24, 0:3, 0:3] = locked[5, 6:9, 7:10] = True
    masks, locks = {"CT_Liver": mask}, {"CT_Liver": locked}
    for options in (RunOptions(), RunOptions(mode="text"), RunOptions(mode="refine"), RunOptions(policy="published")):
        result = segment(band_model(), "CT_Liver", masks_dhw=masks, locked_dhw=locks, options=options)
        assert np.array_equal(result.masks["CT_Liver"][locked], mask[locked])
        assert np.array_equal(result.labelmap == 1, result.masks["CT_Liver"])
        assert result.masks["CT_Liver"][8, 10, 10]


def test_the_region_of_interest_is_a_hard_limit(segment: Any, band_model: Any) -> None:
    roi = ((0, 24), (0, 36), (0, 12))
    result = segment(band_model(), "CT_Liver", roi_dhw=roi)
    assert result.masks["CT_Liver"][..., :12].any()
    assert not result.masks["CT_Liver"][..., 12:].any()
    assert not result.labelmap[..., 12:].any()
    assert dice(result.masks["CT_Liver"], box_mask(np.s_[4:14, 5:17, 6:12])) > 0.85


def test_a_small_region_of_interest_spares_the_networks_the_rest(segment: Any, band_model: Any) -> None:
    image = np.zeros((24, 36, 200), dtype=np.float32)
    image[FIRST] = 100
    model, whole = band_model(), band_model()
    segment(model, "CT_Liver", image=image, roi_dhw=((0, 24), (0, 36), (0, 20)))
    segment(whole, "CT_Liver", image=image)
    assert len(model.network("1").encoded) < len(whole.network("1").encoded)


def test_refinement_changes_the_region_of_the_masks_alone(segment: Any, band_model: Any) -> None:
    image = np.zeros((24, 36, 120), dtype=np.float32)
    image[4:14, 5:17, 6:18] = 100
    image[4:14, 5:17, 90:110] = 100
    model = band_model()
    given = box_mask(np.s_[6:12, 7:15, 8:16], image.shape)
    far = box_mask(np.s_[1:3, 1:3, 115:118], image.shape)
    result = segment(
        model, "CT_Liver", "CT_Pancreas", image=image, masks_dhw={"CT_Liver": given, "CT_Pancreas": far},
        locked_dhw={"CT_Liver": given}, options=RunOptions(mode="refine"),
    )  # fmt: skip
    assert model.network("1").encoded == []
    assert dice(result.masks["CT_Liver"], box_mask(np.s_[4:14, 5:17, 6:18], image.shape)) > 0.9
    assert not result.masks["CT_Liver"][..., 60:].any()
    assert np.array_equal(result.masks["CT_Pancreas"], far)
    assert (result.labelmap[far] == 2).all()
    refined = segment(model, "CT_Liver", image=image, masks_dhw={"CT_Liver": given}, options=RunOptions(mode="refine"))
    assert np.array_equal(refined.masks["CT_Liver"], result.masks["CT_Liver"])


@pytest.mark.parametrize("edge", [40, 64, 90])
def test_a_small_edit_in_a_large_volume_is_refined_in_one_patch(segment: Any, band_model: Any, edge: int) -> None:
    image = np.zeros((edge,) * 3, dtype=np.float32)
    place = np.s_[10:18, 15:23, 20:28]
    image[place] = 100
    given = box_mask(np.s_[12:16, 17:21, 22:26], image.shape)
    model = band_model()
    result = segment(
        model, "CT_Liver", "CT_Pancreas", image=image, masks_dhw={"CT_Liver": given}, locked_dhw={"CT_Liver": given},
        options=RunOptions(mode="refine"),
    )  # fmt: skip
    assert result.runs <= 2  # one patch, with each half of its prompts
    assert dice(result.masks["CT_Liver"], box_mask(place, image.shape)) > 0.9
    corners = box_mask(np.s_[2:38:35, 2:38:35, 2:38:35], image.shape)
    whole = segment(
        model, "CT_Liver", "CT_Pancreas", image=image, masks_dhw={"CT_Liver": given}, locked_dhw={"CT_Liver": corners},
        options=RunOptions(mode="refine"),
    )  # fmt: skip
    assert all(start <= 2 and stop >= 38 for start, stop in whole.boxes[0])


def test_refining_nothing_is_an_error(segment: Any, band_model: Any) -> None:
    with pytest.raises(InputError, match="refine"):
        segment(band_model(), "CT_Liver", options=RunOptions(mode="refine"))


def test_overlapping_structures_both_keep_their_voxels(segment: Any, band_model: Any) -> None:
    result = segment(band_model(), "CT_Liver", "CT_Cyst")
    liver, cyst = result.masks["CT_Liver"], result.masks["CT_Cyst"]
    assert (liver & cyst).sum() > 500
    for label, mask in ((1, liver), (2, cyst)):
        assert not ((result.labelmap == label) & ~mask).any()
    assert np.array_equal(result.labelmap > 0, liver | cyst)


def test_a_structure_asked_for_alone_is_what_it_is_in_a_list(segment: Any, band_model: Any) -> None:
    alone = segment(band_model(), "CT_Liver", options=RunOptions(stages="first"))
    listed = segment(band_model(), "CT_Aorta", "CT_Liver", options=RunOptions(stages="first"))
    assert np.array_equal(alone.masks["CT_Liver"], listed.masks["CT_Liver"])


@pytest.mark.parametrize(("stage", "source"), [("1", "none"), ("2", "none")])
def test_a_model_of_one_stage_is_enough(segment: Any, band_model: Any, stage: str, source: str) -> None:
    for policy in ("product", "published"):
        result = segment(band_model(stage), "CT_Liver", options=RunOptions(policy=policy))
        assert dice(result.masks["CT_Liver"], box_mask(FIRST)) > 0.75
        assert result.structures["CT_Liver"].source == source
    model = band_model(stage)
    prompted = segment(model, "CT_Liver", masks_dhw={"CT_Liver": box_mask(FIRST)})
    assert prompted.structures["CT_Liver"].source == "mask"
    assert any(model.network(stage).encoded)


def test_a_quick_look_runs_the_first_stage_alone(segment: Any, band_model: Any) -> None:
    for policy in ("product", "published"):
        model = band_model()
        result = segment(model, "CT_Liver", options=RunOptions(stages="first", policy=policy))
        assert result.structures["CT_Liver"].found
        assert model.network("2").encoded == []


def test_classes_of_one_stage_only_run_there_and_change_nobody_else(segment: Any, band_model: Any) -> None:
    model = band_model()
    result = segment(model, "US_Soleus", "Microscopy_Synaptic clefts", "CT_Liver")
    assert set(result.masks) == {"US_Soleus", "Microscopy_Synaptic clefts", "CT_Liver"}
    assert result.structures["US_Soleus"].source == "none"
    assert result.structures["CT_Liver"].source == "stage 1"
    assert len(result.boxes) == 3
    assert list(result.masks) == ["US_Soleus", "Microscopy_Synaptic clefts", "CT_Liver"]
    assert np.array_equal(result.masks["CT_Liver"], segment(band_model(), "CT_Liver").masks["CT_Liver"])


def test_instances_are_split_where_they_are_asked_for(segment: Any, band_model: Any, boxes_image: np.ndarray) -> None:
    image = np.where(boxes_image > 0, 100, 0).astype(np.float32)
    options = RunOptions(instances=("Liver",))
    result = segment(band_model(), "CT_Liver", kind="instance", image=image, options=options)
    labels = result.instances["CT_Liver"].array()
    assert set(np.unique(labels)) == {0, 1, 2}
    assert np.array_equal(labels > 0, result.masks["CT_Liver"])
    assert not segment(band_model(), "CT_Liver", image=image).instances


def test_the_published_policy_gives_one_label_a_voxel(segment: Any, band_model: Any) -> None:
    model = band_model()
    result = segment(model, "CT_Liver", "CT_Cyst", options=RunOptions(policy="published"))
    assert not (result.masks["CT_Liver"] & result.masks["CT_Cyst"]).any()
    assert np.array_equal(result.labelmap == 1, result.masks["CT_Liver"])
    assert np.array_equal(result.labelmap == 2, result.masks["CT_Cyst"])
    assert result.structures["CT_Cyst"].mean_probability > 0.5
    hybrid = segment(model, "CT_Liver", masks_dhw={"CT_Liver": box_mask(FIRST)}, options=RunOptions(policy="published"))
    assert hybrid.structures["CT_Liver"].source == "mask"


def test_seeded_runs_repeat_and_cancelled_ones_leave_nothing(segment: Any, band_model: Any) -> None:
    model = band_model(echo=2.0)
    first = segment(model, "CT_Liver", "CT_Pancreas")
    seen: list[str] = []
    hooks = Hooks(
        on_patch=lambda group, stage, done, total: seen.append(stage), should_cancel=lambda: "stage 2" in seen
    )
    with pytest.raises(CancelledError):
        segment(model, "CT_Liver", "CT_Pancreas", hooks=hooks)
    again = segment(model, "CT_Liver", "CT_Pancreas")
    assert np.array_equal(again.labelmap, first.labelmap)
    assert np.array_equal(again.confidence.array(), first.confidence.array())


def test_nothing_of_the_callers_is_changed(segment: Any, band_model: Any, boxes_image: np.ndarray) -> None:
    mask, locked = box_mask(FIRST), box_mask(np.s_[0:2, 0:2, 0:2])
    copies = boxes_image.copy(), mask.copy(), locked.copy()
    segment(band_model(), "CT_Liver", masks_dhw={"CT_Liver": mask}, locked_dhw={"CT_Liver": locked})
    for array, copy in zip((boxes_image, mask, locked), copies, strict=True):
        assert np.array_equal(array, copy)


def test_flipped_views_and_integers_are_taken(segment: Any, band_model: Any, boxes_image: np.ndarray) -> None:
    flipped = np.ascontiguousarray(boxes_image[:, ::-1]).astype(np.uint8)[:, ::-1]
    masks = {"CT_Liver": np.ascontiguousarray(box_mask(FIRST)[:, ::-1])[:, ::-1]}
    result = segment(band_model(), "CT_Liver", image=flipped, masks_dhw=masks)
    assert np.array_equal(
        result.masks["CT_Liver"], segment(band_model(), "CT_Liver", masks_dhw=masks).masks["CT_Liver"]
    )


def test_voxel_features_are_kept_where_the_caller_keeps_them(segment: Any, band_model: Any) -> None:
    class Cache(dict[Any, Any]):
        def put(self, tile: Any, features: Any) -> None:
            self[tile] = features

    kept: dict[RunKey, Cache] = {}
    hooks = Hooks(features=lambda key: kept.setdefault(key, Cache()))
    model = band_model()
    first = segment(model, "CT_Liver", "CT_Pancreas", hooks=hooks)
    runs = len(model.network("1").encoded)
    second = segment(model, "CT_Liver", "CT_Pancreas", hooks=hooks)
    assert len(model.network("1").encoded) == runs
    assert np.array_equal(first.labelmap, second.labelmap)
    assert not first.cached
    assert second.cached
    assert {key.stage for key in kept} >= {1}


def test_memory_running_out_is_survived_and_reported(segment: Any, band_model: Any) -> None:
    model = band_model()
    network, fits = model.network("2"), iter([False])
    encode = network.encode

    def scarce(image: Any, union: Any) -> Any:
        if not next(fits, True):
            raise MemoryError
        return encode(image, union)

    network.encode = scarce
    told: list[str] = []
    result = segment(model, "CT_Liver", hooks=Hooks(on_step=told.append))
    assert result.steps == tuple(told) == ("half precision",)
    assert dice(result.masks["CT_Liver"], box_mask(FIRST)) > 0.9
    network.encode = lambda image, union: (_ for _ in ()).throw(MemoryError())
    with pytest.raises(ResourceError, match="memory"):
        segment(model, "CT_Liver")


def test_steps_are_taken_beforehand_under_a_memory_limit(segment: Any, band_model: Any) -> None:
    result = segment(band_model(), "CT_Liver", compute=Compute(memory_limit_mb=0.001))
    assert result.steps == ("half precision",)
    assert result.structures["CT_Liver"].found


def test_chunks_change_nothing(segment: Any, band_model: Any) -> None:
    keys = ("CT_Liver", "CT_Pancreas", "CT_Cyst")
    plain = segment(band_model(), *keys)
    other = segment(band_model(), *keys, compute=Compute(class_chunk=1))
    assert np.array_equal(plain.labelmap, other.labelmap)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"masks_dhw": {"CT_Liver": np.zeros((3, 3, 3), dtype=bool)}}, "mask of 'CT_Liver'"),
        ({"locked_dhw": {"CT_Liver": np.zeros((3, 3, 3), dtype=bool)}}, "locked region"),
        ({"roi_dhw": ((30, 40), (0, 9), (0, 9))}, "region of interest"),
        ({"roi_dhw": ((5, 5), (0, 9), (0, 9))}, "region of interest"),
    ],
)
def test_bad_input_is_explained(segment: Any, band_model: Any, arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        segment(band_model(), "CT_Liver", **arguments)


def test_no_structure_and_no_stage_are_explained(segment: Any, band_model: Any) -> None:
    with pytest.raises(InputError, match="No structure"):
        segment_volume(band_model(), WindowedImage((4, 4, 4), np.zeros), SPACING, [], torch.zeros(0, 2))
    with pytest.raises(ModelError, match="stage"):
        segment(band_model(""), "CT_Liver")


def test_answers_of_several_windows_are_joined_by_probability(segment: Any, band_model: Any, wanted: Any) -> None:
    parts = [segment(band_model(), key) for key in ("CT_Cyst", "CT_Liver")]
    merged = merge_results(parts, [wanted("CT_Liver"), wanted("CT_Cyst")])
    assert list(merged.masks) == ["CT_Liver", "CT_Cyst"]
    assert np.array_equal(merged.masks["CT_Cyst"], parts[0].masks["CT_Cyst"])
    assert np.array_equal(merged.labelmap > 0, merged.masks["CT_Liver"] | merged.masks["CT_Cyst"])
    both = merged.masks["CT_Liver"] & merged.masks["CT_Cyst"]
    surer = np.where(parts[1].confidence.array() >= parts[0].confidence.array(), 1, 2)
    differ = parts[1].confidence.array() != parts[0].confidence.array()
    assert np.array_equal(merged.labelmap[both & differ], surer[both & differ])
    assert merged.runs == parts[0].runs + parts[1].runs
    with pytest.raises(ValueError, match="no result"):
        merge_results([], [])
