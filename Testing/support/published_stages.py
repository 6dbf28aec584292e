"""What the published networks were trained on, by stage."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from MedalSLib.inference.stage_specs import stage_specs
from MedalSLib.network.published import published_manifest

_MODEL: Any = SimpleNamespace(manifest=published_manifest({"1": "coarse.pth", "2": "fine.pth"}))
PUBLISHED_STAGES = stage_specs(_MODEL)
