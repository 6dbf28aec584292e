"""The published Medal S: its file names, and a manifest for its folder, which has none."""

from __future__ import annotations

from pathlib import Path

from MedalSLib.errors import ModelError
from MedalSLib.network.manifest import Manifest, StageManifest, TextEncoderManifest
from MedalSLib.vocabulary import structures

NAME = "medals-v1"
REPOSITORY = "spc819/Medal-S-V1.0"
LANGUAGE_MODEL_REPOSITORY = "FremyCompany/BioLORD-2023-C"
TEXT_ENCODER = "text_encoder.pth"
LANGUAGE_MODEL = "BioLORD-2023-C"
LANGUAGE_MODEL_FILES = (f"{LANGUAGE_MODEL}/config.json", f"{LANGUAGE_MODEL}/tokenizer.json")
NETWORKS = {"1": "crop_size_224_224_128", "2": "192_192_192"}
"""What the file name of each stage's network contains."""

_PAGE = f"https://huggingface.co/{REPOSITORY}"
_SPACING = {"1": (1.5, 1.5, 3.0), "2": (1.0, 1.0, 1.0)}
_PATCH = {"1": (224, 224, 128), "2": (192, 192, 192)}
LICENCE_TEXT = (
    f"The weights of Medal S belong to its authors and are fetched from {_PAGE}, where their licence is stated; "
    "their code is Apache-2.0. They were trained on the data of the CVPR 2025 challenge, part of which is released "
    "for non-commercial research only (CC BY-NC-SA). The text encoder derives from BioLORD-2023-C "
    f"(https://huggingface.co/{LANGUAGE_MODEL_REPOSITORY}). "
    "Research use; not a medical device."
)
_CARD = f"""# Medal S, published weights

The networks of "Medal S: Spatio-Textual Prompt Model for Medical Segmentation" (arXiv 2511.13001): every structure
of the CVPR 2025 challenge in CT, MRI, ultrasound, PET and microscopy, in two stages (1.5 x 1.5 x 3 mm, then 1 mm).

{LICENCE_TEXT}
"""


def network_stage(file_name: str) -> str | None:
    """Return the stage of a published network by its file name; None for any other file."""
    if not file_name.endswith(".pth"):
        return None
    return next((stage for stage, part in NETWORKS.items() if part in file_name), None)


def is_published_folder(folder: Path) -> bool:
    """Return whether a folder holds the published files instead of a manifest."""
    return (folder / TEXT_ENCODER).is_file() and (folder / LANGUAGE_MODEL).is_dir()


def find_networks(folder: Path) -> dict[str, str]:
    """Return the file of each stage's network.

    Raises:
        ModelError: A stage has no file, or several.
    """
    found: dict[str, list[str]] = {stage: [] for stage in NETWORKS}
    for path in sorted(folder.glob("*.pth")):
        if stage := network_stage(path.name):
            found[stage].append(path.name)
    for stage, names in found.items():
        if len(names) != 1:
            raise ModelError(
                f"The folder {folder} holds {len(names)} networks of stage {stage} ({', '.join(names) or 'none'}).",
                f"There must be one .pth file whose name contains {NETWORKS[stage]}.",
            )
    return {stage: names[0] for stage, names in found.items()}


def published_manifest(networks: dict[str, str]) -> Manifest:
    """Describe the published model by the file of each stage's network, without checksums."""
    return Manifest(
        name=NAME,
        version="1.0",
        title="Medal S, published weights (243 classes)",
        licence="see its page",
        licence_url=_PAGE,
        classes=tuple(structure.key for structure in structures()),
        stages=tuple(
            StageManifest(stage, _SPACING[stage], _PATCH[stage], networks[stage]) for stage in sorted(networks)
        ),
        text_encoder=TextEncoderManifest("knowledge", (TEXT_ENCODER, *LANGUAGE_MODEL_FILES)),
        training_data="CVPR 2025 Foundation Models for Text-Guided 3D Biomedical Image Segmentation",
        card=_CARD,
        source=_PAGE,
    )
