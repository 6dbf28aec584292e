"""Evaluation: the challenge's scores, and what corrections make of a model's results.

- `metrics` scores arrays; `cases` pairs files of truths and results; `folder` scores whole folders (`medals evaluate`).
- `corrections` is what a simulated user paints; `correction_rounds` corrects and asks again; `prompt_comparison` does
  so with text, masks and both (`text_ablation`: without texts); `prompt_report` for whole folders (`--interactive`).
- `tables` and `figure` write what both report.
"""
