"""What is left to the processor, and what travels, when a GPU runs both stages of a CT of 512 x 512 x 300 voxels.

The GPU is pretended (`Testing/support/pretend_gpu.py`), and its networks answer what the image says without computing
anything.  Seconds within calls on the pretended GPU are taken off; what remains is what the processor does meanwhile or
while the GPU waits.

    python Testing/engine/measure_gpu_host.py
"""

from __future__ import annotations

import ctypes
import json
import sys
import time
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[2]), str(Path(__file__).parents[1] / "support")]

import torch  # noqa: E402
from pretend_gpu import pretend_gpu, reset_traffic  # noqa: E402

from MedalSLib.engine.computing import choose_compute  # noqa: E402
from MedalSLib.inference.pipeline import WindowedImage, segment_volume  # noqa: E402
from MedalSLib.run import Policy, RunOptions  # noqa: E402
from tools.benchmarks.scenes import BenchStructure, numbered_image  # noqa: E402
from tools.benchmarks.stub_network import StubNetwork, two_stage_model  # noqa: E402
from tools.benchmarks.whole_run import CLASSES, PATCHES, SHAPE_DHW, SPACING_DHW  # noqa: E402


def keep_memory() -> None:
    """Have the C library give no memory back (Linux): to map the pretended GPU's anew each time is no host's work."""
    library = ctypes.CDLL(None)
    for option, value in ((-4, 0), (-1, 2**31 - 1)):  # M_MMAP_MAX, M_TRIM_THRESHOLD
        library.mallopt(option, value)


def measured(policy: Policy) -> dict[str, Any]:
    """Run once and return what it took."""
    items: Any = [BenchStructure(f"CT_Bench {number}") for number in range(CLASSES)]
    queries = torch.arange(1.0, CLASSES + 1)[:, None]
    image = numbered_image(SHAPE_DHW, CLASSES)
    with pretend_gpu():
        compute = choose_compute("cuda:0")
        begun, cpu = time.perf_counter(), time.process_time()
        found = segment_volume(
            two_stage_model(PATCHES, StubNetwork()),
            WindowedImage(image.shape, lambda window: image),
            SPACING_DHW,
            items,
            queries,
            options=RunOptions(policy=policy),
            compute=compute,
        )
        seconds, cpu_seconds = time.perf_counter() - begun, time.process_time() - cpu
        traffic = reset_traffic()
    return {
        "policy": policy,
        "found": sum(item.found for item in found.structures.values()),
        "network_runs": found.runs,
        "host_s": round(seconds - traffic.seconds, 2),
        "all_s": round(seconds, 2),
        "all_cpu_s": round(cpu_seconds, 2),
        "waits": sum(traffic.waits.values()),
        "waits_by_call": dict(traffic.waits.most_common()),
        "sent_mib": round(sum(traffic.sent) / 2**20, 1),
        "fetched_mib": round(sum(traffic.fetched) / 2**20, 1),
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    keep_memory()
    sys.stdout.write(json.dumps([measured("product"), measured("published")], indent=2) + "\n")
