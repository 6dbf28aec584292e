"""The challenge's cases with the published policy: sizes, stages and labels as the published implementation's."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any

import numpy as np

from MedalSLib.engine.device import choose_device
from MedalSLib.errors import InputError, PromptError
from MedalSLib.vocabulary import resolve, structure, text_for
from MedalSLib.vocabulary.modality import case_modality

if TYPE_CHECKING:
    from MedalSLib.inference.two_stage import StageCall
    from MedalSLib.network.bundle import Model
    from MedalSLib.volume import ChallengeCase


@dataclass(frozen=True)
class Target:
    """One label of a case.

    Attributes:
        label: Its value in the result.
        key: The class its text names ("CT_Liver").
        text: What the text encoder reads.
    """

    label: int
    key: str
    text: str


class ChallengeEngine:
    """A loaded model that answers cases of the challenge.

    Args:
        model: Name of a model or a path.
        device: "auto", "cpu", "cuda", ...
    """

    def __init__(self, model: str = "starter", device: str = "auto") -> None:
        from MedalSLib.network.bundle import open_model

        self._device = choose_device(device)
        self._model: Model = open_model(model, device=self._device.name)

    def predict(
        self, case: ChallengeCase, seed: int = 0, cancel: threading.Event | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Segment one case.

        Args:
            case: Image and texts.
            seed: Seed of the random prompt blocks.
            cancel: Set it to stop within one patch.

        Returns:
            Labels (D, H, W) as the case numbers them (instances are numbered 1..n), and a JSON-ready report.

        Raises:
            InputError: The case has no image or no texts.
            PromptError: No text names anything this model knows.
            CancelledError: `cancel` was set.
        """
        from MedalSLib.inference.models import stage_specs
        from MedalSLib.inference.postprocessing import filter_applies, split_instances
        from MedalSLib.inference.regions import challenge_spacing
        from MedalSLib.inference.two_stage import segment_published

        if case.imgs is None:
            raise InputError(f"{case.path.name} has no image (imgs).", "Give the challenge's input files.")
        begun = time.perf_counter()
        targets, unknown = self._targets(case)
        instance = case.instance_label == 1
        queries = self._model.encode([(target.text, target.key.partition("_")[0]) for target in targets])
        labels = [target.label for target in targets]
        filtered = _filtered(targets) if not instance and filter_applies(case.imgs.shape) else []

        def run(call: StageCall) -> tuple[np.ndarray, np.ndarray | None]:
            return self._run(call, queries, targets, instance, seed, cancel)

        result = segment_published(
            case.imgs,
            challenge_spacing(case.spacing, case.imgs.shape),
            [target.key for target in targets],
            labels,
            run,
            instance=instance,
            filtered=filtered,
            specs=stage_specs(self._model),
        )
        labelmap = split_instances(result.labelmap > 0)[0] if instance else result.labelmap
        return labelmap.astype(np.uint16), {
            "seconds": round(time.perf_counter() - begun, 3),
            "classes": {target.label: target.key for target in targets},
            "not_known": unknown,
            "voxels": {label: int(np.count_nonzero(labelmap == label)) for label in labels} if not instance else {},
            "instances": int(labelmap.max(initial=0)) if instance else None,
        }

    def __enter__(self) -> ChallengeEngine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._model.close()

    def _targets(self, case: ChallengeCase) -> tuple[list[Target], dict[int, str]]:
        """What the texts name, in the published order (by class), and the texts that this model cannot answer."""
        if not case.text_prompts:
            raise InputError(f"{case.path.name} has no text_prompts.", "Give the challenge's input files.")
        modality = _modality(case)
        reads_sentences = self._model.manifest.text_encoder.kind == "knowledge"
        targets: list[Target] = []
        unknown: dict[int, str] = {}
        for label, text in case.text_prompts.items():
            keys = [key for item in resolve(text, modality) for key in item.keys]
            if len(keys) != 1 or not self._model.knows(keys[0]):
                unknown[label] = text
                continue
            targets.append(Target(label, keys[0], text if reads_sentences else text_for(structure(keys[0]))))
        if not targets:
            raise PromptError(
                f"{case.path.name}: the model '{self._model.manifest.name}' knows none of "
                f"{', '.join(case.text_prompts.values())}.",
                "Use a model that knows them (see 'medals models list').",
            )
        return sorted(targets, key=lambda target: target.key), unknown

    def _run(
        self,
        call: StageCall,
        queries: Any,
        targets: Sequence[Target],
        instance: bool,
        seed: int,
        cancel: threading.Event | None,
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Run one stage of the published order of work."""
        from MedalSLib.inference.compute import Compute
        from MedalSLib.inference.resampling_policy import plan
        from MedalSLib.inference.stage import StageHooks, run_stage

        image_hwd = np.ascontiguousarray(call.image_dhw.transpose(1, 2, 0), dtype=np.float32)
        keys = [target.key for target in targets]
        outcome = run_stage(
            self._model.network(str(call.spec.stage)),
            queries,
            image_hwd,
            plan(image_hwd.shape, call.spacing_hwd, keys, call.spec),
            None if call.labels_dhw is None else call.labels_dhw.transpose(1, 2, 0),
            label_values=[target.label for target in targets],
            instance=instance,
            policy="published",
            seed=seed,
            compute=Compute(device=self._device.name),
            hooks=StageHooks(should_cancel=None if cancel is None else cancel.is_set),
        )
        probability = outcome.max_probability.transpose(2, 0, 1) if call.want_probability else None
        return outcome.labelmap.transpose(2, 0, 1), probability


def open_challenge_engine(model: str = "starter", device: str = "auto") -> ChallengeEngine:
    """Load a model for the challenge's cases (see `ChallengeEngine`)."""
    return ChallengeEngine(model, device)


def _modality(case: ChallengeCase) -> str:
    """The modality of a case: what most of its texts say, else the beginning of its file's name ("CT_AMOS_...")."""
    texts: Mapping[int, str] = case.text_prompts
    votes = Counter(item.modality for text in texts.values() for item in resolve(text) if item.classes)
    if (modality := case_modality(case.path.name)) is not None:
        return modality
    if not votes:
        raise PromptError(f"{case.path.name}: none of its texts is understood.", "Check the text_prompts of the case.")
    return str(votes.most_common(1)[0][0])


def _filtered(targets: Sequence[Target]) -> list[str]:
    return [target.key for target in targets if structure(target.key).policy.postprocess]
