"""Many classes at once against one after the other: stage 2 with masks, the same patch."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from tools.benchmarks.measuring import Seconds, ratio, timed
from tools.benchmarks.scenes import BenchOptions, ball, random_network

_SINGLE_RUNS = 2


def parallel_classes(options: BenchOptions) -> dict[str, Any]:
    """Measure; of the single runs two are made, whose mean stands for each of them."""
    import torch

    from MedalSLib.inference.compute import Compute
    from MedalSLib.inference.resampling_policy import StageSpec, plan
    from MedalSLib.inference.stage import run_stage

    network = random_network(options)
    edge = options.shape or options.patch
    image = np.random.default_rng(0).uniform(0, 255, (edge,) * 3).astype(np.float32)
    spec = StageSpec(2, (1.0, 1.0, 1.0), (options.patch,) * 3)
    made = plan(image.shape, (1.0, 1.0, 1.0), ["CT_Liver", "CT_Spleen"], spec, magnify_single=False)

    most = max(_SINGLE_RUNS, *options.classes)
    masks = [_mask(member, edge) for member in range(most)]
    queries = torch.stack([_query(member, network.config.query_dim) for member in range(most)])

    def run(members: list[int]) -> None:
        chosen = {number: masks[member] for number, member in enumerate(members)}
        run_stage(network, queries[members], image, made, chosen, compute=Compute())

    run([0])
    singles = [timed(partial(run, [member]), options.repeats) for member in range(_SINGLE_RUNS)]
    single = Seconds(sum(one.wall for one in singles), sum(one.cpu for one in singles)) * (1 / _SINGLE_RUNS)
    rows = []
    for count in options.classes:
        together = timed(partial(run, list(range(count))), options.repeats)
        apart = single * count
        rows.append(
            {
                "classes": count,
                "together": together.to_dict(),
                "one_by_one": apart.to_dict(),
                "share": ratio(together, apart),
                "less_time_percent": round(100 * (1 - together.cpu / apart.cpu), 1),
            }
        )
    return {"patches": len(made.tiles), "single_run": single.to_dict(), "rows": rows}


def _mask(member: int, edge: int) -> np.ndarray:
    random = np.random.default_rng(member)
    return ball((edge,) * 3, tuple(random.uniform(0.2, 0.8, 3) * edge), edge / 8)


def _query(member: int, width: int) -> Any:
    import torch

    return torch.from_numpy(np.random.default_rng(100 + member).normal(size=width)).float()
