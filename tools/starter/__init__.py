"""Building the bundled starter: a data source and recipes for `MedalSLib.training`, and what comes before and after.

Read in this order: `packages` and `public_sources` (where volumes come from) and `labels` (what is taught); `pack` with
`anatomy`, and `public_volumes` (sources to packed volumes); `volumes`, `patch_geometry`, `patch_appearance` with
`appearance`, `synthesis` and `mask_prompts` (packed volumes to patches); `data_source` (patches to batches for the
trainer); `model` (its initial weights); `train`; `gpu_run` (some minutes on a GPU); `bundle` (a run to a model folder);
`held_out_cases`, `score` and `card`.
"""
