"""Arrays come back from the wire as they went in, and damaged ones do not come back at all."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from MedalSLib.service.encoding import (
    IMAGE_DTYPES,
    LABEL_DTYPES,
    DamagedError,
    array_bytes,
    canonical_image,
    chunk_bounds,
    decode_chunk,
    decode_labels,
    decode_mask,
    digest_of,
    encode_chunk,
    encode_labels,
    encode_mask,
)
from MedalSLib.service.protocol import EncodedArray, from_json, to_json
from MedalSLib.volume import BoxArray, BoxMask, bounding_box

SHAPES = hnp.array_shapes(min_dims=3, max_dims=3, max_side=9)


@settings(max_examples=100, deadline=None)
@given(st.data(), st.sampled_from(IMAGE_DTYPES), st.sampled_from([8, 16, 64, 4096]), st.integers(0, 1))
def test_images_survive_in_chunks_of_any_size(data: st.DataObject, dtype: str, chunk: int, level: int) -> None:
    image = canonical_image(data.draw(hnp.arrays(dtype, SHAPES)))
    whole = array_bytes(image)
    parts = [
        decode_chunk(encode_chunk(whole[start:stop], image.itemsize, level), stop - start, image.itemsize)
        for start, stop in chunk_bounds(image.nbytes, chunk)
    ]
    assert np.concatenate(parts).tobytes() == image.tobytes()


@settings(max_examples=200, deadline=None)
@given(hnp.arrays(bool, SHAPES))
def test_masks_survive(array: np.ndarray) -> None:
    encoded = from_json(EncodedArray, to_json(encode_mask(BoxMask.of(array))))
    assert np.array_equal(decode_mask(encoded, array.shape).array(), array)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(LABEL_DTYPES).flatmap(lambda dtype: hnp.arrays(dtype, SHAPES)))
def test_labelmaps_survive(array: np.ndarray) -> None:
    encoded = from_json(EncodedArray, to_json(encode_labels(BoxArray.of(array))))
    back = decode_labels(encoded, array.shape).array()
    assert back.dtype == array.dtype and np.array_equal(back, array)


def test_only_the_box_of_a_mask_travels() -> None:
    mask = np.zeros((100, 200, 300), bool)
    mask[10:20, 30:50, 200:216] = True
    encoded = encode_mask(BoxMask.of(mask))
    assert encoded.box == ((10, 20), (30, 50), (200, 216)) == bounding_box(mask)
    assert len(encoded.data) < 60


@pytest.mark.parametrize("voxels", [0, 1, 7, 1000, 1 << 21])
def test_noise_which_cannot_be_compressed_travels_and_one_kilobyte_more_does_not(voxels: int) -> None:
    mask = np.random.default_rng(1).random((1, 1, voxels or 5)) > (0.5 if voxels else 1.0)
    encoded = encode_mask(BoxMask.of(mask))
    assert np.array_equal(decode_mask(encoded, mask.shape).array(), mask)
    with pytest.raises(DamagedError, match="longer than its box"):
        decode_mask(replace(encoded, data=encoded.data + "A" * (1024 + len(encoded.data) // 500)), mask.shape)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 100))
def test_random_bytes_never_become_a_chunk_of_another_size(data: bytes, size: int) -> None:
    try:
        assert decode_chunk(data, size * 2, 2).nbytes == size * 2
    except DamagedError:
        return


def test_every_single_flipped_bit_of_a_mask_is_noticed() -> None:
    import base64

    mask = np.random.default_rng(0).random((5, 6, 7)) > 0.5
    encoded = to_json(encode_mask(BoxMask.of(mask)))
    packed = base64.b64decode(encoded["data"])
    for place in range(len(packed) * 8):
        broken = bytearray(packed)
        broken[place // 8] ^= 1 << (place % 8)
        values = encoded | {"data": base64.b64encode(bytes(broken)).decode()}
        try:
            assert np.array_equal(decode_mask(from_json(EncodedArray, values), mask.shape).array(), mask)
        except DamagedError:
            continue


def test_the_address_of_an_image_depends_on_its_type_shape_and_voxels() -> None:
    image = np.arange(24, dtype="<i2").reshape(2, 3, 4)
    others = [image.reshape(3, 2, 4), image.view("<u2"), image + 1, image.astype("<i4")]
    digests = {digest_of(np.ascontiguousarray(other)) for other in [image, *others]}
    assert len(digests) == 5
    assert digest_of(canonical_image(image.astype(">i2"))) == digest_of(image)


@pytest.mark.parametrize("values", [None, [], "x", {}, {"shape": [1, 2], "box": [], "dtype": "", "data": ""}])
def test_json_that_is_no_array_is_refused(values: object) -> None:
    with pytest.raises(ValueError, match="not the JSON"):
        from_json(EncodedArray, values)
