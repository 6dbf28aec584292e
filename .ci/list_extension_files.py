"""Write the lists of files in the top-level CMakeLists.txt: CMake's macros want every script and resource by name.

`python .ci/list_extension_files.py` writes them, `--check` only says whether they are complete (exit status 1 if not).
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LISTS = {"scripts": ("MedalSLib", (".py",)), "resources": ("Resources", ())}
LEFT_OUT = (
    "MedalSLib/cli/",
    "MedalSLib/engine/challenge_cases.py",
    "MedalSLib/evaluation/",
    "MedalSLib/html_page.py",
    "MedalSLib/network/monai_bundle.py",
    "MedalSLib/network/onnx_export.py",
    "MedalSLib/service/batch",
    "MedalSLib/service/healthcheck.py",
    "MedalSLib/service/scaleout.py",
    "MedalSLib/training/",
    "MedalSLib/view/",
    "MedalSLib/volume/challenge.py",
    "MedalSLib/volume/challenge_prompts.py",
    "MedalSLib/volume/dicom_listing.py",
    "MedalSLib/volume/dicom_phases.py",
    "MedalSLib/volume/dicom_pixels.py",
    "MedalSLib/volume/dicom_reading.py",
    "MedalSLib/volume/dicom_seg.py",
    "MedalSLib/volume/dicom_series.py",
    "MedalSLib/volume/dicom_slices.py",
    "MedalSLib/volume/dicom_stack.py",
    "MedalSLib/volume/files.py",
    "MedalSLib/volume/formats.py",
    "MedalSLib/volume/image.py",
    "MedalSLib/volume/layers.py",
    "MedalSLib/volume/metaimage_reading.py",
    "MedalSLib/volume/nifti_reading.py",
    "MedalSLib/volume/nrrd_reading.py",
    "MedalSLib/volume/preview.py",
    "MedalSLib/volume/reading.py",
    "MedalSLib/volume/resample.py",
    "MedalSLib/volume/restricted_pickle.py",
    "MedalSLib/volume/seg_nrrd.py",
    "MedalSLib/volume/segment_info.py",
    "MedalSLib/volume/segment_names.py",
    "MedalSLib/volume/segmentation.py",
    "MedalSLib/volume/segmentation_reading.py",
    "MedalSLib/volume/writing.py",
    "Resources/Operation/",
    "Resources/Recipes/",
)
"""What the extension does not ship: nothing in the module uses it, and some of it needs packages that Slicer's Python
does not get.  The command line, and what reads and writes files outside Slicer, come with pip."""
SKIPPED = {"__pycache__", ".gitignore", ".gitkeep", ".DS_Store"}


def files(folder: str, suffixes: tuple[str, ...], root: Path = ROOT) -> list[str]:
    """Return the files of a folder that belong to the extension, as CMake writes paths, sorted.

    Files that git ignores (built or downloaded) do not belong to it; without git every file does.
    """
    paths = sorted(path for path in (root / folder).rglob("*") if path.is_file() and not SKIPPED & set(path.parts))
    found = [path.relative_to(root).as_posix() for path in paths if not suffixes or path.suffix in suffixes]
    ignored = _ignored(found, root)
    return [name for name in found if name not in ignored and not name.startswith(LEFT_OUT)]


def listed(text: str, name: str) -> list[str]:
    """Return what a CMakeLists.txt lists between the marks of a list."""
    match = re.search(rf"# begin {name}\n(.*?) *# end {name}\n", text, re.DOTALL)
    if match is None:
        raise SystemExit(f"CMakeLists.txt has no list between '# begin {name}' and '# end {name}'.")
    return match[1].split()


def written(text: str) -> str:
    """Return a CMakeLists.txt with complete lists."""
    for name, (folder, suffixes) in LISTS.items():
        listed(text, name)
        block = "".join(f"  {path}\n" for path in files(folder, suffixes))
        text = re.sub(
            rf"(# begin {name}\n).*?( *# end {name}\n)",
            lambda match, block=block: match[1] + block + match[2],
            text,
            flags=re.DOTALL,
        )
    return text


def _ignored(names: list[str], root: Path) -> set[str]:
    try:
        done = subprocess.run(
            ["git", "check-ignore", "--stdin"],
            cwd=root,
            input="\n".join(names),
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        return set()
    return set(done.stdout.split("\n")) if done.returncode == 0 else set()


def main(arguments: list[str]) -> int:
    """Write or check the lists."""
    path = ROOT / "CMakeLists.txt"
    text = path.read_text(encoding="utf-8")
    new = written(text)
    if new == text:
        print("The lists are complete.")
        return 0
    if "--check" in arguments:
        print("The lists are not complete: run python .ci/list_extension_files.py")
        return 1
    path.write_text(new, encoding="utf-8", newline="\n")
    print("The lists were written.")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
