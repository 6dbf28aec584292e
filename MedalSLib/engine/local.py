"""The engine in this process: a loaded model on a device."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from MedalSLib import __version__
from MedalSLib.engine.caches import CacheSettings
from MedalSLib.engine.checks import check_image
from MedalSLib.engine.device import choose_device
from MedalSLib.engine.interface import Engine, EngineInfo
from MedalSLib.engine.loaded_model import LoadedModel
from MedalSLib.engine.session import LocalSession
from MedalSLib.vocabulary import normalize_modality
from MedalSLib.volume import Grid, guess_modality
from MedalSLib.volume.modality_guess import hounsfield_doubt

if TYPE_CHECKING:
    from MedalSLib.network.bundle import Model


class LocalEngine(Engine):
    """A model loaded once, and the sessions opened on it.

    Args:
        model: "starter", the name of an installed model, or a path.
        device: "auto", "cpu", "cuda", "cuda:1" or "mps".
        threads: CPU threads to use, 0 for torch's own choice.
        memory_limit_mb: Act as if the device had no more memory than this; None for what is free.
        caches: How much each session may keep of its image; by default a quarter of what is free.

    Raises:
        ModelError: No such model, or it is damaged.
        ResourceError: No such device, or torch is not installed.
    """

    def __init__(
        self,
        model: str = "starter",
        device: str = "auto",
        *,
        threads: int = 0,
        memory_limit_mb: float | None = None,
        caches: CacheSettings | None = None,
    ) -> None:
        chosen = choose_device(device)
        if threads:
            import torch

            torch.set_num_threads(threads)
            chosen = choose_device(device)  # its words name the threads
        from MedalSLib.network.bundle import open_model

        opened = open_model(model, device=chosen.name)
        self.loaded = LoadedModel(opened, chosen, memory_limit_mb, caches or CacheSettings())
        self._sessions: list[LocalSession] = []

    @property
    def model(self) -> Model:
        """The loaded model."""
        return self.loaded.model

    def info(self) -> EngineInfo:
        """Say what is loaded, where, and what it knows."""
        manifest = self.model.manifest
        return EngineInfo(
            model=manifest.name,
            version=manifest.version,
            title=manifest.title,
            licence=manifest.licence,
            classes=tuple(manifest.classes),
            device=self.loaded.device.words,
            device_reason=self.loaded.device.reason,
            software=__version__,
            card=manifest.card,
        )

    def open_session(self, array_kji: np.ndarray, affine_ras: np.ndarray, modality: str | None = None) -> LocalSession:
        """Open an image (see `Engine.open_session`)."""
        array = check_image(array_kji)
        chosen, warnings = _modality(array, modality)
        if chosen == "CT" and (doubt := hounsfield_doubt(array)):
            warnings = (*warnings, doubt)
        return self._opened(array, affine_ras, chosen, warnings)

    def open_windowed(self, array_kji: np.ndarray, affine_ras: np.ndarray, modality: str) -> LocalSession:
        """Open an image whose intensities are 0..255 after a window already, as the challenge's files are.

        Args:
            array_kji: Intensities (K, J, I).
            affine_ras: 4x4, index (i, j, k) to RAS millimetres.
            modality: Canonical modality.
        """
        return self._opened(array_kji, affine_ras, modality, (), windowed=True)

    def _opened(
        self,
        array: np.ndarray,
        affine_ras: np.ndarray,
        modality: str,
        warnings: tuple[str, ...],
        windowed: bool = False,
    ) -> LocalSession:
        k, j, i = array.shape
        session = LocalSession(self.loaded, array, Grid((k, j, i), affine_ras), modality, warnings, windowed)
        self._sessions = [other for other in self._sessions if not other.closed]
        self._sessions.append(session)
        return session

    def close(self) -> None:
        """Close the sessions and free the model."""
        for session in self._sessions:
            session.close()
        self._sessions.clear()
        self.model.close()
        if self.loaded.device.name.startswith("cuda"):
            import torch

            torch.cuda.empty_cache()


def _modality(array: np.ndarray, wanted: str | None) -> tuple[str, tuple[str, ...]]:
    """The modality to use, and the sentence that says so if it was guessed."""
    if wanted:
        return normalize_modality(wanted), ()
    guess = guess_modality(array)
    return guess.modality, (f"Taken for {guess.modality}: {guess.reason} Say it if that is wrong.",)
