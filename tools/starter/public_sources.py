"""The public repositories that the starter is trained on besides registry packages, and how to get them.

`python -m tools.starter.public_sources` prints the commands that fetch each at its commit.  `--clones FOLDER --output
VOLUMES` then converts the head-and-neck CTs and the label maps of heads into the layout that
`tools.starter.public_volumes` and `tools.starter.score` read.  The three small sources are put there by hand: `STEPS`.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from MedalSLib.atomic_files import write_json
from MedalSLib.errors import InputError, MedalSError


@dataclass(frozen=True)
class PublicSource:
    """One public source.

    Attributes:
        folder: Folder of its volumes.
        packed: What the names of its packed volumes begin with; "" for what is held out.
        repository: Repository on GitHub.
        commit: Commit at which it was taken.
        licence: Its licence.
        what: What of it is trained on, in words.
        path: Path in the repository.
        volumes: How many volumes are trained on.
        held_out: What of it is held out, in words.
    """

    folder: str
    packed: str
    repository: str
    commit: str
    licence: str
    what: str
    path: str
    volumes: int = 0
    held_out: str = ""

    def commands(self) -> str:
        """Return the shell commands that fetch it into the working folder, without the repository's history."""
        name = self.repository.partition("/")[2]
        return (
            f"git clone --filter=blob:none --no-checkout https://github.com/{self.repository}\n"
            f"git -C {name} sparse-checkout set {self.path}\n"
            f"git -C {name} checkout {self.commit}\n"
        )


PUBLIC_SOURCES = (
    PublicSource(
        "openkbp", "neck_", "ababier/open-kbp", "ce625e6", "MIT", "97 CTs of head and neck", "provided-data", 97,
        "17 of its patients",
    ),
    PublicSource(
        "synthseg_heads", "head_[", "BBillot/SynthSeg", "66342c1", "Apache-2.0", "20 label maps of heads",
        "data/training_label_maps", 20,
    ),
    PublicSource(
        "cervical_cord", "cord_", "spinalcordtoolbox/sct_testing_data", "af4c7e8", "MIT",
        "two MRs of the cervical cord", "data", 2,
    ),
    PublicSource(
        "nuclei", "nuclei_", "kreshuklab/plant-seg", "9d74806", "MIT", "two volumes of nuclei", "tests/resources/data",
        2, "one volume",
    ),
    PublicSource(
        "t1_head", "", "niivue/niivue", "9255c43", "BSD-2-Clause", "one head in MR", "demos/images", 0, "a T1 head"
    ),
)  # fmt: skip

STEPS = """\
cervical_cord/  t1.nii.gz, t2.nii.gz: the two images; t1_labels.nii.gz, t2_labels.nii.gz: their manual cords
nuclei/         1135.npz, 1136.npz, 1137.npz: imgs (uint8) and gts (instances) of 1135_mini.h5 and so on, and
                spacing_um_zyx
t1_head/        t1.nii.gz: the T1 head without its skull; labels.nii.gz: its FreeSurfer labels, every cortical parcel
                as 3 (left) or 42 (right)
"""
"""What to put where by hand, since these are a few files of formats that no dependency reads."""

_LABELS = {
    "Brainstem": 1, "SpinalCord": 2, "RightParotid": 3, "LeftParotid": 4, "Mandible": 5, "Larynx": 6, "Esophagus": 7,
}  # fmt: skip
_EDGE = 128
_WHOLE_SLICE = 0.02
TRAINED = (
    1, 2, 3, 4, 6, 11, 15, 20, 21, 24, 29, 30, 31, 34, 35, 36, 38, 39, 42, 43, 48, 54, 55, 57, 60, 62, 65, 66,
    67, 68, 71, 72, 78, 79, 82, 83, 84, 87, 90, 91, 93, 94, 96, 101, 104, 109, 113, 114, 115, 116, 119, 120,
    122, 124, 127, 131, 136, 139, 141, 146, 147, 151, 155, 158, 159, 160, 162, 166, 168, 172, 178, 181, 182,
    184, 187, 190, 193, 194, 198, 200, 201, 207, 212, 213, 214, 215, 222, 225, 226, 229, 230, 231, 232, 236,
    237, 238, 239,
)  # fmt: skip
HELD_OUT = (
    247, 248, 256, 274, 279, 285, 292, 296, 299, 303, 312, 315, 319, 323, 327, 334, 339,
)  # fmt: skip
"""Numbers of the patients whose CTs are whole enough, and which of them are never trained on."""


def read_sparse(path: Path) -> np.ndarray:
    """Return a volume (x, y, z) in RAS of one of the head-and-neck set's files, 0 where it lists nothing.

    The files list indices into 128 x 128 x 128 voxels and their values; a structure's values are left out and are 1.

    Raises:
        InputError: The file is damaged.
    """
    volume = np.zeros(_EDGE**3, np.float32)
    try:
        for line in path.read_text(encoding="ascii").splitlines()[1:]:
            index, _, value = line.partition(",")
            volume[int(index)] = float(value) if value else 1.0
    except (ValueError, IndexError) as error:
        raise InputError(f"{path} is damaged ({error}).", "Fetch it again.") from error
    # Rows run to the back, columns to the left and slices downwards there.
    return volume.reshape((_EDGE,) * 3).transpose(1, 0, 2)[::-1, ::-1, ::-1]


def convert_necks(clone: Path, output: Path) -> Iterator[str]:
    """Convert the head-and-neck CTs; yields the names.

    Slices in which the source keeps the CT only within the region of the dose are cut away at both ends.

    Args:
        clone: The fetched repository.
        output: Folder of the volumes.

    Raises:
        InputError: A patient is missing or damaged.
    """
    import nibabel

    output.mkdir(parents=True, exist_ok=True)
    entries = []
    for number in (*TRAINED, *HELD_OUT):
        name = f"pt_{number}"
        folder = next(iter(sorted(clone.glob(f"provided-data/*/{name}"))), None)
        if folder is None:
            raise InputError(f"{clone} lacks the patient {name}.", "Fetch the repository at the commit that is named.")
        ct, region = (read_sparse(folder / file) for file in ("ct.csv", "possible_dose_mask.csv"))
        whole = np.flatnonzero(((ct > 0) & (region == 0)).mean((0, 1)) > _WHOLE_SLICE)
        kept = slice(int(whole[0]), int(whole[-1]) + 1) if len(whole) else slice(None)
        labels, contoured = np.zeros(ct.shape, np.uint8), []
        for structure, label in _LABELS.items():
            if (folder / f"{structure}.csv").is_file():
                contoured.append(structure)
                labels[read_sparse(folder / f"{structure}.csv") > 0] = label
        spacing = [float(value) for value in (folder / "voxel_dimensions.csv").read_text().split()]
        affine = np.diag([*spacing, 1.0])
        hounsfield = np.clip(ct - 1024, -1024, 1500).astype(np.int16)
        for kind, array in (("ct", hounsfield), ("labels", labels)):
            nibabel.save(nibabel.Nifti1Image(array[:, :, kept], affine), output / f"{name}_{kind}.nii.gz")
        role = "train" if number in TRAINED else "held out"
        entries.append({"name": name, "role": role, "contoured": contoured, "spacing_mm": spacing})
        yield name
    write_json(output / "index.json", {"labels": _LABELS, "volumes": entries})


def convert_heads(clone: Path, output: Path) -> Iterator[str]:
    """Copy the label maps of heads under their new names; yields these."""
    output.mkdir(parents=True, exist_ok=True)
    for path in sorted((clone / "data/training_label_maps").glob("training_seg_*.nii.gz")):
        name = f"head_{path.name.removeprefix('training_seg_').removesuffix('.nii.gz')}"
        shutil.copyfile(path, output / f"{name}_labels.nii.gz")
        yield name


def main(arguments: list[str] | None = None) -> int:
    """Print the commands, or convert what they fetched; returns the exit code."""
    parser = argparse.ArgumentParser(description="Get the public training volumes of the bundled starter.")
    parser.add_argument("--clones", type=Path, help="folder with the fetched repositories")
    parser.add_argument("--output", type=Path, help="folder for the volumes")
    options = parser.parse_args(arguments)
    if options.clones is None or options.output is None:
        for source in PUBLIC_SOURCES:
            sys.stdout.write(f"# {source.what}: {source.repository}, {source.licence}\n{source.commands()}")
        sys.stdout.write(f"\n# by hand, in the folder of the volumes:\n{STEPS}")
        return 0
    try:
        necks = list(convert_necks(options.clones / "open-kbp", options.output / "openkbp"))
        heads = list(convert_heads(options.clones / "SynthSeg", options.output / "synthseg_heads"))
    except MedalSError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    sys.stdout.write(json.dumps({"necks": len(necks), "heads": len(heads)}) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
