#!/bin/sh
# Entry point of the challenge's image: every .npz of the inputs, one result of the same name in the outputs.
# Usage: predict.sh [INPUTS [OUTPUTS [further options of `medals predict`]]]
# MEDALS_MODEL is the model: the name of an installed one, or a folder (default: starter).
set -eu
inputs="${1:-/workspace/inputs}"
outputs="${2:-/workspace/outputs}"
[ "$#" -gt 0 ] && shift
[ "$#" -gt 0 ] && shift
exec "${PYTHON:-python}" -m MedalSLib.cli predict "$inputs" "$outputs" --model "${MEDALS_MODEL:-starter}" --empty --overwrite "$@"
