"""From 0..255 intensities, text queries and masks to segmentations on the volume's own grid.  No file is read here.

The room in the order of the data:

* `grouping` decides which structures run together, `pipeline.segment_volume` runs group after group and joins them.
* `policy_product` joins the two stages of a group as the product does (overlapping masks, hybrid prompts, refinement),
  `policy_published` exactly as published (the challenge's npz files); `class_rules` says which published exception
  holds for which class.  `stage_runner` runs one stage on one region for them.
* `resampling_policy.plan` decides spacing, padding and tiles of a stage, `resampling` brings image and masks to its
  grid, `tiling` cuts it, `prompts` hides half of each prompt, `predictor` runs the network on one patch (`patch_cache`
  knows some answers already, `prompt_fusion` mixes the prompts), `blending` joins patches, `outputs` and `mask_output`
  turn probabilities into labels and masks, `stage.run_stage` does one stage from end to end.
* `finalize` drops what is not believed, clips to the region of interest and keeps what the user locked.
* `memory` estimates what a run needs and names the steps to take when it does not fit; `backends` chooses the form of
  the network for the device.

Volumes, masks and boxes have the axes (D, H, W); from `stage` down to the network they are (H, W, D), as trained.
`MedalSLib.network.axes` turns one into the other.

The one call an engine needs::

    result = segment_volume(
        model, image, spacing_dhw, structures, queries,
        windows={key: Window}, masks_dhw={key: BoxMask}, locked_dhw={key: BoxMask}, roi_dhw=None,
        options=RunOptions(), compute=Compute(), hooks=Hooks(),
    )
    result.box_masks[key], result.labels, result.structures[key], result.instances[key], result.seconds

Everything is a function of its arguments: nothing is kept between calls except in the caches that the caller passes.
"""
