"""Challenge files are read without running or allocating what a hostile one asks for."""

from __future__ import annotations

import io
import os
import pickle
import struct
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from MedalSLib.errors import InputError, OutputError
from MedalSLib.volume.challenge import read_challenge, write_challenge_result
from MedalSLib.volume.reading import read_image
from MedalSLib.volume.restricted_pickle import plain_values

PROMPTS: dict[str, Any] = {"1": "Liver in CT", "2": "Spleen", "instance_label": 0}


def imgs() -> np.ndarray:
    return np.arange(4 * 5 * 6, dtype=np.uint8).reshape(4, 5, 6)


def save(path: Path, **arrays: Any) -> Path:
    np.savez_compressed(path, **{"imgs": imgs(), "spacing": np.array([0.8, 0.9, 5.0]), **arrays})
    return path


def npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=True)
    return stream.getvalue()


def save_raw(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def object_npy(pickled: bytes) -> bytes:
    header = npy(np.array(None, dtype=object))
    return header[: 10 + struct.unpack("<H", header[8:10])[0]] + pickled


def test_a_case_is_read(tmp_path: Path) -> None:
    case = read_challenge(save(tmp_path / "CT_a.npz", text_prompts=np.array(PROMPTS, dtype=object)))
    np.testing.assert_array_equal(case.imgs, imgs())
    assert case.spacing == (0.8, 0.9, 5.0)
    assert case.spacing_dhw == case.grid.spacing_kji == pytest.approx((5.0, 0.9, 0.8))
    assert case.text_prompts == {1: "Liver in CT", 2: "Spleen"}
    assert case.instance_label == 0 and case.segs is None


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("key", [1, "1", np.int64(1), np.uint8(1)])
def test_every_way_to_pickle_the_prompts_is_understood(protocol: int, key: Any) -> None:
    value = np.array({key: "Liver", "instance_label": np.int32(1), "b": np.bool_(True), "f": np.float32(0.5)})
    read = plain_values(pickle.dumps(value, protocol=protocol), "test")
    assert read == {key if type(key) in (int, str) else 1: "Liver", "instance_label": 1, "b": True, "f": 0.5}
    assert all(type(item) in (str, int, bool, float) for item in read.values())


def test_a_real_case_is_read_and_becomes_an_image(reference: Path) -> None:
    case = read_challenge(reference / "cases" / "CT_AMOS_amos_0018.npz")
    assert case.imgs is not None and case.imgs.dtype == np.uint8
    assert len(case.text_prompts) == 15 and "liver" in case.text_prompts[6].lower()
    truth = read_challenge(reference / "cases" / "CT_AMOS_amos_0018_gt.npz")
    assert truth.segs is not None and truth.segs.max() == 15 and truth.segs.shape == case.imgs.shape
    image = read_image(reference / "cases" / "CT_AMOS_amos_0018.npz")
    assert image.windowed and image.modality.modality == "CT"


class Bomb:
    def __init__(self, *call: Any) -> None:
        self.call = call

    def __reduce__(self) -> tuple[Any, Any]:
        return self.call[0], self.call[1:]


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
@pytest.mark.parametrize("call", [(os.system,), (subprocess.call,), (eval,), (exec,)], ids=lambda c: c[0].__name__)
def test_a_pickle_bomb_is_refused_and_nothing_runs(tmp_path: Path, call: tuple[Any], protocol: int) -> None:
    mark = tmp_path / "it ran"
    code = f"touch '{mark}'" if call[0] is os.system else f"open({str(mark)!r}, 'w')"
    argument: Any = ["touch", str(mark)] if call[0] is subprocess.call else code
    bomb = np.array({"1": Bomb(call[0], argument)}, dtype=object)
    path = save_raw(
        tmp_path / "a.npz",
        {"imgs.npy": npy(imgs()), "text_prompts.npy": object_npy(pickle.dumps(bomb, protocol=protocol))},
    )
    with pytest.raises(InputError, match="text_prompts") as caught:
        read_challenge(path)
    assert caught.value.remedy
    assert not mark.exists()


@pytest.mark.parametrize(
    "data",
    [
        b"cos\nsystem\n(S'true'\ntR.",
        b"\x80\x04\x8c\x05numpy\x8c\x09genfromtxt\x93.",
        b"\x80\x04\x8c\x08builtins\x8c\x07getattr\x93.",
        b"\x80\x04Ppersistent\n.",
        b"\x80\x02\x82\x01.",
        b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x0f",  # BINBYTES8 of an exabyte
        b"\x80\x04X\xff\xff\xff\x7fabc.",  # text of 2 GB that is not there
        b"\x80\x04r\xff\xff\xff\x7f.",  # a memo of 2 billion entries
        b"\x80\x04}\x94\x8c\x01ah\x00s.",  # a dictionary that contains itself
        b"\x80\x04" + b"]" * 100_000 + b"a" * 99_999 + b".",
        b"",
        b"\x80\x04",
        b"garbage",
    ],
)
def test_hostile_and_broken_pickles_are_refused(data: bytes) -> None:
    with pytest.raises(InputError, match="was not opened"):
        plain_values(data, "test")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\x80\x04Nr\x00\x00\x01\x00.", "uses LONG_BINPUT"),  # may claim a memo of any size
        (b"\x80\x04\x8f.", "uses EMPTY_SET"),
        (b"\x80\x02cposix\nsystem\n.", "asks for posix.system"),
        (b"\x80\x04\x8c\x05posix\x8c\x06system\x93.", "asks for posix.system"),
    ],
)
def test_the_reason_of_a_refusal_is_said(data: bytes, reason: str) -> None:
    with pytest.raises(InputError, match=reason):
        plain_values(data, "test")


@pytest.mark.parametrize(
    "name", [("numpy", "dtype"), ("numpy", "ndarray"), ("_codecs", "encode"), ("numpy._core.multiarray", "scalar")]
)
def test_a_pickle_cannot_change_the_stand_ins(name: tuple[str, str]) -> None:
    state = b"}X\x01\x00\x00\x00xK\x01s"
    for build in (state + b"b.", b"N" + state + b"\x86b."):  # as __dict__, and as slots
        with pytest.raises(InputError):
            plain_values(b"\x80\x02c" + name[0].encode() + b"\n" + name[1].encode() + b"\n" + build, "test")


def test_a_small_pickle_cannot_become_a_huge_value() -> None:
    value: Any = "x"
    for _ in range(11):
        value = [value] * 10
    with pytest.raises(InputError, match="too much"):
        plain_values(pickle.dumps(value), "test")


def test_arrays_of_objects_elsewhere_are_not_opened(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not numbers"):
        read_challenge(save(tmp_path / "a.npz", spacing=np.array([1, None], dtype=object)))


def forged_npy(shape: str, data: bytes, descr: str = "|u1") -> bytes:
    header = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data


@pytest.mark.parametrize(
    ("member", "cause"),
    [
        (forged_npy("(1000000, 1000000, 1000000)", b"abc"), "MiB"),
        (forged_npy("(2000, 1000, 1000)", b"abc"), "size it claims"),
        (forged_npy("(2, 2, 2)", b"x" * 100), "size it claims"),
        (b"\x93NUMPY\x02\x00" + struct.pack("<I", 1 << 31) + b"{}", "not a NumPy array"),
        (forged_npy("(2, 2, 2)", b"x" * 8, descr="|V1"), "not numbers"),
        (b"\x93NUMPY\x01\x00\x20\x00" + b"__import__('os').system('true') ", "not a NumPy array"),
        (b"not an array", "not a NumPy array"),
    ],
)
def test_forged_headers_are_refused_before_memory_is_taken(tmp_path: Path, member: bytes, cause: str) -> None:
    path = save_raw(tmp_path / "a.npz", {"imgs.npy": member})
    with pytest.raises(InputError, match=cause):
        read_challenge(path)


def test_a_zip_bomb_is_refused(tmp_path: Path) -> None:
    path = save_raw(tmp_path / "a.npz", {"imgs.npy": forged_npy("(64, 1024, 1024)", bytes(64 << 20))})
    with pytest.raises(InputError, match="MiB"):
        read_challenge(path, max_array_bytes=16 << 20)
    assert read_challenge(path).imgs is not None


def test_a_directory_that_lies_about_sizes_is_refused(tmp_path: Path) -> None:
    path = save_raw(tmp_path / "a.npz", {"imgs.npy": forged_npy("(16, 1024, 1024)", b"x" * 9)})
    data = bytearray(path.read_bytes())
    at = data.index(b"PK\x01\x02")
    data[at + 24 : at + 28] = struct.pack("<I", (16 << 20) + 128)
    path.write_bytes(data)
    with pytest.raises(InputError, match="claims a size"):
        read_challenge(path)


def test_too_many_entries_and_unusual_compression_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="entries"):
        read_challenge(save_raw(tmp_path / "a.npz", {f"{n}.npy": b"" for n in range(100)}))
    with zipfile.ZipFile(tmp_path / "b.npz", "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("imgs.npy", npy(imgs()))
    with pytest.raises(InputError, match="unusual"):
        read_challenge(tmp_path / "b.npz")


@pytest.mark.parametrize("keep", [0.3, 0.7, 0.95])
def test_a_truncated_npz_is_refused(tmp_path: Path, keep: float) -> None:
    path = save(tmp_path / "a.npz")
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(InputError, match="cannot be read"):
        read_challenge(path)


@pytest.mark.parametrize(
    ("arrays", "cause"),
    [
        ({"imgs": np.zeros((4, 5))}, "2-D"),
        ({"segs": np.zeros((1, 2, 3), np.uint8)}, "fit together"),
        ({"spacing": np.array([1.0, 0.0, 1.0])}, "positive"),
        ({"spacing": np.array([1.0, np.nan, 1.0])}, "positive"),
        ({"spacing": np.array([1.0, 2.0])}, "three numbers"),
        ({"text_prompts": np.array([1, 2])}, "dictionary of sentences"),
        ({"text_prompts": np.array(["a"], dtype=object)}, "not a dictionary"),
        ({"text_prompts": np.array({"one": "Liver"}, dtype=object)}, "unknown entry"),
        ({"text_prompts": np.array({"1": 5}, dtype=object)}, "unknown entry"),
    ],
)
def test_inconsistent_cases_are_refused(tmp_path: Path, arrays: dict[str, Any], cause: str) -> None:
    with pytest.raises(InputError, match=cause) as caught:
        read_challenge(save(tmp_path / "a.npz", **arrays))
    assert caught.value.remedy


def test_a_file_without_image_and_labels_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", other=np.zeros(3))
    with pytest.raises(InputError, match="neither imgs nor segs"):
        read_challenge(tmp_path / "a.npz")


def test_a_result_is_written_without_pickle_and_read_back(tmp_path: Path) -> None:
    segs = np.random.default_rng(0).integers(0, 3, (4, 5, 6))
    write_challenge_result(tmp_path / "r.npz", segs, (1, 2, 3), ["Leber", "Milz ü"])
    with np.load(tmp_path / "r.npz", allow_pickle=False) as stored:
        np.testing.assert_array_equal(stored["segs"], segs)
        assert stored["segs"].dtype == np.uint8
    case = read_challenge(tmp_path / "r.npz")
    np.testing.assert_array_equal(case.segs, segs)
    assert case.names == {1: "Leber", 2: "Milz ü"} and case.spacing == (1, 2, 3)


def test_many_labels_need_wider_numbers(tmp_path: Path) -> None:
    segs = np.arange(300, dtype=np.int64).reshape(3, 10, 10)
    write_challenge_result(tmp_path / "r.npz", segs)
    np.testing.assert_array_equal(read_challenge(tmp_path / "r.npz").segs, segs)


@pytest.mark.parametrize("segs", [np.zeros((2, 2)), np.zeros((2, 2, 2)), np.full((2, 2, 2), -1)])
def test_what_is_no_labelmap_is_not_written(tmp_path: Path, segs: np.ndarray) -> None:
    with pytest.raises(InputError):
        write_challenge_result(tmp_path / "r.npz", segs)
    assert not list(tmp_path.iterdir())


def test_an_existing_result_is_kept_unless_it_may_be_overwritten(tmp_path: Path) -> None:
    segs = np.ones((2, 2, 2), np.uint8)
    write_challenge_result(tmp_path / "r.npz", segs)
    before = (tmp_path / "r.npz").read_bytes()
    with pytest.raises(OutputError, match="exists"):
        write_challenge_result(tmp_path / "r.npz", segs * 2)
    assert (tmp_path / "r.npz").read_bytes() == before
    write_challenge_result(tmp_path / "r.npz", segs * 2, overwrite=True)
    assert (tmp_path / "r.npz").read_bytes() != before
