#!/usr/bin/env bash
# Evaluate a student, and the model that it started from, with lm-evaluation-harness's own command
# line, on the paper's benchmarks:
#   workflow/distillation/evaluate.sh students/olmo2-7b-extracted allenai/OLMo-2-1124-7B
set -euo pipefail
for model in "$@"; do
    lm_eval run --model hf --model_args "pretrained=$model,dtype=bfloat16" \
        --tasks gsm8k,ifeval,mmlu,hendrycks_math500 --batch_size auto \
        --apply_chat_template --seed 0 --output_path "scores/$(basename "$model")"
done
