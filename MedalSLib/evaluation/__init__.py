"""Evaluation: the challenge's scores for results.

- `metrics` scores arrays; `cases` pairs files of truths and results; `folder` scores whole folders (`medals evaluate`).
- `score_tables` and `figure` write what is reported.

What corrections make of a model's results is measured in `tools/interactive`.
"""
