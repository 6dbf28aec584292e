"""An opened model: networks and text encoder, loaded on first use, and a cache of encoded texts."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from MedalSLib.errors import ModelError
from MedalSLib.network import registry
from MedalSLib.network.checkpoints import load_published
from MedalSLib.network.config import MedalSConfig
from MedalSLib.network.frozen_queries import FrozenQueries
from MedalSLib.network.install_sources import describe_folder
from MedalSLib.network.manifest import Manifest, StageManifest, verify_files
from MedalSLib.network.medals import MedalS
from MedalSLib.network.weights_file import load_compact_encoder, load_network
from MedalSLib.vocabulary import normalize_modality


class Model:
    """A model on a device; safe to use from several threads.

    Args:
        folder: The model's folder; like the others an attribute.
        manifest: What the model is and knows.
        device: Where networks and text encoder go.
    """

    def __init__(self, folder: Path, manifest: Manifest, device: str | torch.device = "cpu") -> None:
        self.folder = folder
        self.manifest = manifest
        self.device = torch.device(device)
        self._networks: dict[str, MedalS] = {}
        self._encoder: nn.Module | None = None
        self._queries: FrozenQueries | None = None
        self._lock = threading.RLock()
        self._classes = frozenset(manifest.classes)

    def knows(self, key: str) -> bool:
        """Return whether the model was trained on a structure ("CT_Liver")."""
        return key in self._classes

    def network(self, stage: str) -> MedalS:
        """Return a stage's network, in evaluation mode on `device`; stages that share a file share it.

        Raises:
            ModelError: No such stage, or its file is damaged or of another architecture.
        """
        described = self.manifest.stage(stage)
        with self._lock:
            network = self._networks.get(described.weights)
            if network is None:
                network = self._load(described)
                self._networks[described.weights] = network
            return network

    def encode(self, structures: Sequence[tuple[str, str]]) -> Tensor:
        """Turn texts into queries; a text that was encoded before is not encoded again.

        Args:
            structures: (text, modality) each, such as ("Liver", "CT").

        Returns:
            [N, query_dim] float32 on `device`.

        Raises:
            PromptError: A modality is not known.
            ModelError: The text encoder's files are damaged.
        """
        texts = [text for text, _ in structures]
        modalities = [normalize_modality(modality) for _, modality in structures]
        with self._lock:
            if not texts:
                return torch.zeros(0, self.network(self.manifest.stages[0].stage).config.query_dim, device=self.device)
            return self._loaded_queries()(texts, modalities).to(self.device)

    def close(self) -> None:
        """Free networks, encoder and queries; the next use loads them again."""
        with self._lock:
            self._networks.clear()
            self._queries = self._encoder = None

    def _load(self, described: StageManifest) -> MedalS:
        path = self.folder / described.weights
        if path.suffix == ".pth":
            entries = described.config or {"image_size": described.patch_hwd}
            return load_published(path, MedalSConfig.from_dict(entries), self.device)
        network = load_network(path, self.device)
        if described.config and MedalSConfig.from_dict(described.config) != network.config:
            raise ModelError(
                f"The weights {path.name} are of another architecture than the manifest says.",
                "Install the model again.",
            )
        return network

    def _loaded_queries(self) -> FrozenQueries:
        if self._queries is None:
            if self.manifest.text_encoder.kind == "compact":
                self._encoder = load_compact_encoder(self.folder / self.manifest.text_encoder.files[0], self.device)
            else:
                from MedalSLib.network.text_encoder import KnowledgeTextEncoder

                self._encoder = KnowledgeTextEncoder.from_folder(self.folder, self.device)
            self._queries = FrozenQueries(self._encoder)
        return self._queries


def open_model(name_or_path: str | Path, device: str | torch.device = "cpu") -> Model:
    """Open a model by name or folder; its files are checked first, its networks are loaded on first use.

    Args:
        name_or_path: "starter", the name of an installed model, or a model's folder (ours with a manifest.json, or one
            with the published files under their published names).
        device: Where networks and text encoder go.

    Raises:
        ModelError: No such model, not installed, files missing, or wrong checksum.
    """
    folder = registry.find_folder(name_or_path)
    manifest = describe_folder(folder)
    verify_files(folder, manifest)
    return Model(folder, manifest, device)
