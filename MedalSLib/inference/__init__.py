"""From 0..255 intensities, text queries and masks to segmentations on the volume's own grid.  No file is read here.

The room in the order of the data:

* `resampling_policy.plan` decides spacing, padding and tiles; `class_policy` says which published rule holds for whom.
* `resampling.preprocess` brings image and masks to the plan's grid, `tiling` cuts it, `prompts` hides half of each
  prompt, `predictor` runs the network on one patch, `accumulator` blends patches, `sinks` turn blended probabilities
  into labels and masks on the volume's own grid, `stage.run_stage` does one stage from end to end.
* `packed` and `boxed` keep masks, labels and probabilities as the box they lie in, from there to the result and back.
* `two_stage.segment_published` joins two stages exactly as published (the challenge's npz files).
* `segment.segment_volume` joins them as the product does: overlapping masks, hybrid prompts, locks, region, report.
* `memory` estimates what a run needs and names the steps to take when it does not fit.

The one call an engine needs::

    from MedalSLib.inference.pipeline import Hooks, RunOptions, segment_volume
    from MedalSLib.inference.stage import Compute

    result = segment_volume(
        model,                 # MedalSLib.network.bundle.Model: .manifest.stages and .network("1" | "2")
        image_dhw,             # float32 (D, H, W), 0..255 after the intensity window
        spacing_dhw,           # millimetres
        structures,            # each with .key ("CT_Liver") and .kind ("semantic" | "instance")
        queries,               # tensor [N, Q], one text query for each structure
        masks_dhw={key: bool array}, locked_dhw={key: bool array}, roi_dhw=None, region_dhw=None,
        options=RunOptions(), compute=Compute(), hooks=Hooks(),
    )
    result.masks[key]          # bool (D, H, W); a mapping that unpacks a mask when it is asked for
    result.labelmap            # 0, or 1 + position in `structures` of the most probable one; made when asked for
    result.structures[key]     # found, voxels, mean_probability, source ("stage 1", "mask", "none")
    result.instances[key]      # labelmap 1..n where `options.instances` asks for it
    result.boxes, result.seconds, result.steps, result.cached, result.runs

Structures that need another intensity window go through another call; `segment.merge_results` joins the answers.
Everything is a function of its arguments: nothing is kept between calls except in the caches that the caller passes.
"""
