"""Every sentence of the challenge runs, and what is drawn in the interactive track is read as prompts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from MedalSLib.engine.challenge_cases import predict_case, read_texts
from MedalSLib.engine.local import LocalEngine
from MedalSLib.errors import InputError
from MedalSLib.vocabulary.modality import case_modality
from MedalSLib.vocabulary.tables import structures
from MedalSLib.volume.challenge import challenge_shape, read_challenge
from MedalSLib.volume.challenge_prompts import TargetPrompts, painted_target
from MedalSLib.volume.mask import BoxMask

KNOWN = frozenset(item.key for item in structures())
STRANGE = "Liver behaving like a left luggage locker on abdominal CT"


def test_every_sentence_of_the_challenge_runs_and_means_the_class_of_its_label(reference: Path) -> None:
    path = reference / "published" / "CVPR25_TextSegFMData_with_class.json"
    total = 0
    for dataset, labels in json.loads(path.read_text(encoding="utf-8")).items():
        modality = case_modality(f"{dataset}_1.npz") or "PET"  # autoPET
        texts = {int(label): lines for label, lines in labels.items() if label != "instance_label"}
        names = read_texts({label: lines[0] for label, lines in texts.items()}, modality, KNOWN, True)
        for at in range(max(map(len, texts.values()))):
            asked = {label: lines[at] for label, lines in texts.items() if at < len(lines)}
            targets = read_texts(asked, modality, KNOWN, True)
            assert not targets.not_known
            assert {targets.texts[item.key] for item in targets.structures.values()} == set(asked.values())
            for label in asked:
                assert targets.structures[label].key == names.structures[label].key, asked[label]
            total += len(asked)
    assert total == 3186


def test_a_slash_in_a_name_does_not_cut_it_off() -> None:
    text = "Prostate/uterus demonstrating anatomical zonation/endometrial layers on abdominal magnetic resonance"
    assert read_texts({15: text}, "MRI", KNOWN, True).structures[15].key == "MRI_Prostate/uterus"


def test_a_text_that_the_vocabulary_cannot_place_is_encoded_as_it_stands_by_an_encoder_of_sentences() -> None:
    texts = {1: "Spleen in CT", 2: STRANGE, 3: "Spleen in abdominal CT", 4: STRANGE}
    targets = read_texts(texts, "CT", KNOWN, reads_sentences=True)
    assert targets.structures[1].key == "CT_Spleen"
    assert [targets.texts[targets.structures[label].key] for label in (1, 2, 3)] == [
        texts[label] for label in (1, 2, 3)
    ]
    assert targets.not_known == {4: STRANGE}  # asked twice
    compact = read_texts(texts, "CT", KNOWN, reads_sentences=False)
    assert set(compact.structures) == {1} and not compact.texts


def test_a_text_of_which_a_part_is_not_understood_is_not_taken_for_the_other_part() -> None:
    text = "Liver and luggage locker in CT"
    targets = read_texts({1: text}, "CT", KNOWN, reads_sentences=True)
    assert targets.structures[1].key == f"CT_{text}" and not targets.not_known
    assert read_texts({1: text}, "CT", KNOWN, reads_sentences=False).not_known == {1: text}


def test_what_the_model_was_not_trained_on_is_not_known_however_well_it_reads() -> None:
    assert read_texts({1: "Spleen in CT"}, "CT", {"CT_Liver"}, reads_sentences=True).not_known == {1: "Spleen in CT"}


def test_boxes_beside_texts_are_of_another_track_unless_asked_for(engine: LocalEngine, tmp_path: Path) -> None:
    image, ball = round_target()
    texts = np.array({"1": "Spleen in CT"}, dtype=object)
    case = read_challenge(interactive_case(tmp_path / "CT_a.npz", image, boxes=[BOX], text_prompts=texts))
    without_box = read_challenge(interactive_case(tmp_path / "CT_b.npz", image, text_prompts=texts))
    by_name, _ = predict_case(engine, case)
    drawn, _ = predict_case(engine, case, uses_drawings=True)
    np.testing.assert_array_equal(by_name, predict_case(engine, without_box)[0])
    assert overlap(drawn == 1, ball) > 0.3 and not np.array_equal(drawn, by_name)


def round_target() -> tuple[np.ndarray, np.ndarray]:
    """A bright ball in noise: image (Z, Y, X) uint8, and where it is."""
    z, y, x = np.mgrid[:24, :40, :40]
    ball = ((z - 11) / 6) ** 2 + ((y - 18) / 9) ** 2 + ((x - 22) / 9) ** 2 < 1
    image = np.where(ball, 180, 60) + np.random.default_rng(0).normal(0, 4, ball.shape)
    return image.astype(np.uint8), ball


BOX = {"z_min": 6, "z_max": 16, "z_mid": 11, "z_mid_x_min": 14, "z_mid_x_max": 30, "z_mid_y_min": 10, "z_mid_y_max": 26}


def interactive_case(path: Path, image: np.ndarray, **arrays: Any) -> Path:
    objects = {
        key: np.array(value, dtype=object) if isinstance(value, list) else value for key, value in arrays.items()
    }
    np.savez_compressed(path, imgs=image, spacing=np.array([1.5, 1.5, 2.0]), **objects)
    return path


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    return 2.0 * np.count_nonzero(one & other) / (np.count_nonzero(one) + np.count_nonzero(other))


@pytest.fixture(scope="module")
def engine() -> LocalEngine:
    return LocalEngine("starter", "cpu", threads=1)


def test_a_box_a_click_and_a_previous_prediction_are_prompts(engine: LocalEngine, tmp_path: Path) -> None:
    image, ball = round_target()
    case = read_challenge(interactive_case(tmp_path / "CT_a.npz", image, boxes=[BOX]))
    labels, report = predict_case(engine, case)
    assert set(np.unique(labels)) == {0, 1} and overlap(labels == 1, ball) > 0.6
    assert report["classes"] == {1: "CT_target 1"}

    previous = (ball & (np.arange(40) < 22)).astype(np.uint8)  # half of it was missed
    clicks = [{"fg": [[11, 18, 27]], "bg": []}]
    case = read_challenge(
        interactive_case(tmp_path / "CT_b.npz", image, boxes=[BOX], clicks=clicks, prev_pred=previous)
    )
    again, _ = predict_case(engine, case)
    assert overlap(again == 1, ball) > overlap(previous == 1, ball) + 0.1

    perfect = ball.astype(np.uint8)
    case = read_challenge(interactive_case(tmp_path / "CT_c.npz", image, boxes=[BOX], prev_pred=perfect))
    kept, _ = predict_case(engine, case)
    np.testing.assert_array_equal(kept, perfect)  # nothing was clicked, so nothing changes


@pytest.mark.parametrize(
    "arrays",
    [
        {"boxes": [{"z_min": 1}]},
        {"boxes": [{**BOX, "z_min": 20, "z_max": 3}]},
        {"clicks": [{"fg": [[1, 2]], "bg": []}]},
        {"clicks": [{"fg": [[1, 2, 400]], "bg": []}]},
        {"clicks": ["here"]},
        {"prev_pred": np.zeros((2, 2, 2), np.uint8)},
    ],
)
def test_prompts_that_are_no_prompts_are_refused(tmp_path: Path, arrays: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=r"prompts|prev_pred"):
        read_challenge(interactive_case(tmp_path / "CT_a.npz", round_target()[0], **arrays))


def test_a_click_counts_where_the_mask_says_otherwise_and_is_kept_where_it_does_not() -> None:
    mask = np.zeros((10, 20, 20), bool)
    mask[2:8, 5:15, 5:15] = True
    prompts = TargetPrompts(None, 0, ((5, 10, 10),), ((5, 10, 14),))
    target = painted_target(prompts, BoxMask.of(mask), (2.0, 2.0, 2.0))
    painted, locked = target.painted.array(), target.locked.array()
    assert locked[5, 10, 10] and not painted[5, 10, 10]
    assert painted[5, 10, 14] and not target.mask.array()[5, 10, 14]


def test_the_shape_of_a_case_is_known_although_its_texts_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "CT_a.npz"
    np.savez_compressed(path, imgs=np.zeros((4, 5, 6), np.uint8), text_prompts=np.array(5, dtype=object))
    with pytest.raises(InputError):
        read_challenge(path)
    assert challenge_shape(path) == (4, 5, 6)
