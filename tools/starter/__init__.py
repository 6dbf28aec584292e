"""Building the bundled starter: a data source and recipes for `MedalSLib.training`, and what comes before and after.

Read in this order: `packages` (where volumes come from) and `labels` (what is taught); `pack` with `anatomy` (packages
to packed volumes); `volumes`, `patch_geometry`, `patch_appearance` with `appearance`, `synthesis` and `mask_prompts`
(packed volumes to patches); `data_source` (patches to batches for the trainer); `model` (its initial weights); `train`;
`bundle` (a run to a model folder); `held_out_cases` and `score`.
"""
