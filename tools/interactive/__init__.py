"""What corrections are worth: a simulated user corrects the largest error of a result, round by round.

- `corrections`: the next correction (a slice, a stroke, a click) of an error.
- `correction_rounds`: the rounds of one structure of one image.
- `prompt_comparison`: texts alone, masks alone and both; `text_ablation` silences a model's texts for it.
- `prompt_report`: folders of labelled images through an engine, tables and a figure; `medals evaluate --interactive`.
- `bench`: what carrying corrections over is worth without an engine; `train_corrections` trains its weights.
"""
