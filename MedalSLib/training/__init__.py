"""Training: from labelled cases to a model folder.  Needs `pip install "medals[train]"`; the Slicer extension has none.

How a run goes:

- `sources` finds cases, `case_reading` and `training_grid` bring them onto the network's grid, `prepare` does so for
  whole folders, `case_store` and `prepared_folder` are what is left on disk.
- `nnunet` writes cases, as they were or prepared, in nnU-Net's layout.
- `recipe` says all of a run.  A data source makes batches by number (`batch`): for prepared folders that is `samples`,
  with `sampling`, `augmentation`, `laterality`, `texts` and `prompt_simulation`.  Another one is a class with one
  method, such as the starter's in `tools/starter`.
- `building` makes network and text encoder (`queries`), `trainer` is the one training loop (`losses`, `schedule`,
  `optimizer`, `precision`, `distributed`, `steps`), `run_folder` keeps checkpoints and logs.
- `train`, `fine_tune` (`best_state`, `fine_tune_result`) and `dry_run` are the commands; `export` writes the model.

A batch depends on the recipe's seed and on its number alone, so a resumed run is the same, bit for bit, as one that was
never interrupted.
"""
