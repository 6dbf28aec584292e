"""A model as a MONAI bundle: one network as TorchScript that looks for fixed structures, and how MONAI runs it.

The bundle runs without this package. What only the engine can do (prompts, two stages, the published resampling by
structure) is not in it, and its README says so.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from MedalSLib import __version__
from MedalSLib.atomic_files import empty_folder, write_json, write_text, writing
from MedalSLib.errors import InputError, PromptError
from MedalSLib.network.bundle import Model
from MedalSLib.network.manifest import Manifest, StageManifest
from MedalSLib.network.medals import MedalS
from MedalSLib.network.position import sinusoidal_code
from MedalSLib.vocabulary import Structure, describe, normalize_modality, resolve, text_for
from MedalSLib.volume.windows import AS_IS, PERCENTILES, Window, group_by_window

_NETWORK = "models/model.ts"
_SCHEMA = "https://github.com/Project-MONAI/MONAI-extra-test-data/releases/download/0.8.1/meta_schema_20220324.json"
_NETWORK_AXES = "PLS"
"""Where the network's H, W, D grow to."""
_MONAI, _NIBABEL, _IGNITE = "1.5.0", "5.2.0", "0.5.0"
Groups = Mapping[Window, Sequence[Structure]]


class _Asked(nn.Module):
    """A network with its questions: the queries of one channel's structures, for each channel."""

    def __init__(self, network: MedalS, queries: Sequence[Tensor], patch: tuple[int, int, int]) -> None:
        super().__init__()
        self.network = network
        self.channels = len(queries)
        for channel, some in enumerate(queries):
            self.register_buffer(f"queries{channel}", some[None])
        stride = network.config.total_stride
        height, width, depth = (size // stride for size in patch)
        # A buffer, because a tensor that is made while tracing stays on the device of the trace.
        self.register_buffer("positions", sinusoidal_code((height, width, depth), network.config.query_dim))

    def forward(self, image: Tensor) -> Tensor:
        """Return 0.5 and the probabilities [B, 1 + N, H, W, D] of a patch [B, channels, H, W, D]."""
        nothing = image[:, :1] * 0
        parts = [nothing + 0.5]
        for channel in range(self.channels):
            features = self.network.encode(image[:, channel : channel + 1], nothing)
            queries = self.get_buffer(f"queries{channel}").expand(image.shape[0], -1, -1)
            decoded = self.network.transformer_decoder(queries, features.tokens, self.get_buffer("positions"))
            voxels = self.network.fuse(features)
            parts.append(MedalS.project(voxels, self.network.mask_embed_proj(decoded)).sigmoid())
        return torch.cat(parts, dim=1)


def export_monai(model: Model, folder: Path, modality: str = "", text: str = "", stage: str = "") -> list[Path]:
    """Write one network of a model as a MONAI bundle.

    Args:
        model: The model, on the CPU.
        folder: An empty folder, or one that does not exist yet.
        modality: Modality of the images; "" for the one of which the model knows most structures.
        text: The structures; "" for all that the model knows in this modality.
        stage: The network; "" for the model's first.

    Returns:
        The files. `models/model.ts` takes patches [B, channels, H, W, D] of 0..255, a channel for each intensity
        window, and gives probabilities [B, 1 + N, H, W, D]; the first is 0.5, so that the largest is the label.

    Raises:
        PromptError: A structure or the modality is not known to the model.
        InputError: The stage counts in voxels, which MONAI's transforms cannot.
        ModelError: There is no such stage.
        OutputError: The folder is not empty, or cannot be written.
    """
    manifest = model.manifest
    chosen = _modality(manifest, modality)
    described = manifest.stage(stage or manifest.stages[0].stage).used_for(chosen)
    if described.resampling == "relative":
        raise InputError(
            f"The network counts in voxels of each image in {chosen}.", "Export another modality, or ONNX."
        )
    windows = {"*": manifest.windows[chosen]} if chosen in manifest.windows else {}
    groups = group_by_window(_structures(manifest, chosen, text), windows)
    empty_folder(folder)
    for name in ("configs", "docs", "models"):
        empty_folder(folder / name)
    with writing(folder / _NETWORK):
        torch.jit.save(_traced(model, groups, described), str(folder / _NETWORK))
    write_json(folder / "configs/metadata.json", _metadata(manifest, described, chosen, groups))
    write_json(folder / "configs/inference.json", _inference(described, groups))
    write_text(folder / "docs/README.md", _readme(manifest, described, chosen, groups))
    write_text(folder / "LICENSE", f"The weights: {manifest.licence}\n{manifest.licence_url}\n")
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _modality(manifest: Manifest, asked: str) -> str:
    known = [describe(key).modality for key in manifest.classes]
    modality = normalize_modality(asked) if asked else max(known, key=known.count)
    if modality not in known:
        raise PromptError(
            f"The model knows no structure in {modality}.", f"Choose one of: {', '.join(sorted(set(known)))}."
        )
    return modality


def _structures(manifest: Manifest, modality: str, text: str) -> list[Structure]:
    known = [key for key in manifest.classes if describe(key).modality == modality]
    if not text:
        return [describe(key) for key in known]
    found: dict[str, None] = {}
    for resolution in resolve(text, modality, manifest.classes):
        here = [key for key in resolution.keys if key in known]
        if not here:
            names = ", ".join(describe(key).name for key in known)
            raise PromptError(f"The model does not know '{resolution.phrase}' in {modality}.", f"It knows: {names}.")
        found |= dict.fromkeys(here)
    if not found:
        raise PromptError(f"'{text}' names no structure.", 'Write names, such as "liver".')
    return [describe(key) for key in found]


def _traced(model: Model, groups: Groups, stage: StageManifest) -> torch.jit.ScriptModule:
    queries = [model.encode([(text_for(item), item.modality) for item in members]) for members in groups.values()]
    asked = _Asked(model.network(stage.stage), queries, stage.patch_hwd).eval().requires_grad_(False)
    # With gradients: without them layers work in place, which is traced wrongly.
    with torch.enable_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about shapes that are fixed, as they are meant to be
        return torch.jit.trace(asked, torch.rand(1, len(groups), *stage.patch_hwd), check_trace=False)


def _inference(stage: StageManifest, groups: Groups) -> dict[str, Any]:
    """Return what MONAI does to images in `dataset_dir`: read, window, resample, run, put back, write labelmaps."""
    channels = ["image", *(f"image{number}" for number in range(1, len(groups)))]
    extents = {"scale_extent": True, "align_corners": True}  # the same edges, as the engine resamples
    copies = [_transform("CopyItemsd", keys="image", names=name) for name in channels[1:]]
    return {
        "imports": ["$import glob", "$import numpy as np"],
        "bundle_root": ".",
        "dataset_dir": "$@bundle_root + '/images'",
        "output_dir": "$@bundle_root + '/eval'",
        "files": "$sorted(glob.glob(@dataset_dir + '/*.nii*'))",
        "device": "$torch.device('cuda' if torch.cuda.is_available() else 'cpu')",
        "network_def": f"$torch.jit.load(@bundle_root + '/{_NETWORK}', map_location=@device)",
        "preprocessing": _transform("Compose", transforms=[
            _transform("LoadImaged", keys="image"),
            _transform("EnsureChannelFirstd", keys="image"),
            *copies,
            *(_windowing(key, window) for key, window in zip(channels, groups, strict=True)),
            _transform("ConcatItemsd", keys=channels, name="image"),
            _transform("Orientationd", keys="image", axcodes=_NETWORK_AXES, labels=None),
            _transform("Spacingd", keys="image", pixdim=list(stage.spacing_hwd), **extents),
            _transform("SpatialPadd", keys="image", spatial_size=list(stage.patch_hwd), method="end"),
        ]),
        "dataset": _transform("Dataset", data="$[{'image': file} for file in @files]", transform="@preprocessing"),
        "dataloader": _transform("DataLoader", dataset="@dataset", batch_size=1),
        "inferer": _transform("SlidingWindowInferer", roi_size=list(stage.patch_hwd), overlap=0.5, mode="gaussian"),
        "postprocessing": _transform("Compose", transforms=[
            _transform("Invertd", keys="pred", transform="@preprocessing", orig_keys="image", nearest_interp=False),
            _transform("AsDiscreted", keys="pred", argmax=True),
            _transform("SaveImaged", keys="pred", output_dir="@output_dir", output_dtype="$np.uint16", resample=False),
        ]),
        "evaluator": _transform("SupervisedEvaluator", val_data_loader="@dataloader", network="@network_def",
                                **{key: f"@{key}" for key in ("device", "inferer", "postprocessing")}),
        "run": ["$@evaluator.run()"],
    }  # fmt: skip


def _windowing(key: str, window: Window) -> dict[str, Any]:
    if window.bounds is not None:
        low, high = window.bounds
        return _transform("ScaleIntensityRanged", keys=key, a_min=low, a_max=high, b_min=0, b_max=255, clip=True)
    if window == AS_IS:
        return _transform("Identityd", keys=key)
    scaled = "(image.clip(low, high) - low) / max(high - low, 1e-6) * 255"
    bounds = f"*np.percentile(image[image != 0], {list(PERCENTILES)})"
    return _transform("Lambdad", keys=key, func=f"$lambda image: (lambda low, high: {scaled})({bounds})")


def _transform(target: str, **arguments: Any) -> dict[str, Any]:
    return {"_target_": target, **arguments}


def _metadata(manifest: Manifest, stage: StageManifest, modality: str, groups: Groups) -> dict[str, Any]:
    names = [item.name for members in groups.values() for item in members]
    image = {
        "type": "image",
        "format": "hounsfield" if modality == "CT" else "magnitude",
        "modality": modality,
        "num_channels": len(groups),
        "spatial_shape": list(stage.patch_hwd),
        "dtype": "float32",
        "value_range": [0, 255],
        "is_patch_data": True,
        "channel_def": {str(number): str(window) for number, window in enumerate(groups)},
    }
    output = image | {
        "format": "segmentation",
        "num_channels": 1 + len(names),
        "value_range": [0, 1],
        "channel_def": {str(number): name for number, name in enumerate(["background", *names])},
    }
    return {
        "schema": _SCHEMA,
        "version": manifest.version,
        "changelog": {manifest.version: f"exported by Medal S {__version__}"},
        "monai_version": _MONAI,
        "pytorch_version": torch.__version__.partition("+")[0],
        "numpy_version": np.__version__,
        "required_packages_version": {"nibabel": _NIBABEL, "pytorch-ignite": _IGNITE},
        "name": manifest.name,
        "task": f"Segmentation of {len(names)} structures in {modality}",
        "description": f"{manifest.title}. Stage {stage.stage} alone, without prompts, at {_spacing(stage)}.",
        "authors": "see docs/README.md",
        "copyright": manifest.licence,
        "data_source": manifest.training_data,
        "data_type": "nibabel",
        "pred_classes": "probabilities; channel 0 is 0.5 everywhere, so that the largest channel is the label",
        "intended_use": "Research use; not a medical device.",
        "spacing": list(stage.spacing_hwd),
        "orientation": _NETWORK_AXES,
        "network_data_format": {"inputs": {"image": image}, "outputs": {"pred": output}},
    }


def _readme(manifest: Manifest, stage: StageManifest, modality: str, groups: Groups) -> str:
    names = [(item.name, window) for window, members in groups.items() for item in members]
    rows = "".join(f"| {label} | {name} | {window} |\n" for label, (name, window) in enumerate(names, 1))
    return f"""# {manifest.title}

A MONAI bundle of stage {stage.stage} of the Medal S model `{manifest.name}`, version {manifest.version}: {modality} \
at {_spacing(stage)}, patches of {" x ".join(map(str, stage.patch_hwd))} voxels, axes {_NETWORK_AXES}.

    python -m monai.bundle run --config_file configs/inference.json --meta_file configs/metadata.json \\
        --dataset_dir IMAGES --output_dir RESULTS

reads every NIfTI file in IMAGES and writes a labelmap each (`pip install "monai[nibabel,ignite,fire]"`).

| label | structure | intensity window |
|---|---|---|
{rows}
`models/model.ts` is TorchScript. It takes patches of 0..255, a channel for each window, and gives probabilities; the
structures are fixed in it. What it leaves out, and Medal S does: other names, masks and corrections as prompts, a \
second stage, the rules by which the published networks resample by structure (here: to the spacing above), masks \
that overlap, separate instances, and dropping stray pieces and what is not there. The results are \
not the same as those of Medal S, and scores of the model's card need not hold for them.

{manifest.card}
"""


def _spacing(stage: StageManifest) -> str:
    return f"{' x '.join(f'{value:g}' for value in stage.spacing_hwd)} mm"
