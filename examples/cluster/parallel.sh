#!/bin/bash
# One process for each GPU of this machine, which share the album part by part; what failed or was interrupted is done when it is run again:
#   bash parallel.sh album restored 16
set -euo pipefail
album=$1 results=$2 parts=$3
gpus=${GPUS:-1}
mkdir -p "$results/logs"
# {%} is the number of the job slot, from 1: the GPU. A part that was done is not done again (--resume), one that failed is (--resume-failed).
seq 1 "$parts" | parallel --jobs "$gpus" --joblog "$results/logs/joblog" --resume --resume-failed \
  "${SUPIR:-npx supir} restore '$album' --recursive -o '$results' --shard {}/$parts --gpu \$(({%} - 1)) \
  --skip-existing --state '$results/.state/{}' --log '$results/logs/{}.jsonl' --quiet ${SUPIR_OPTIONS:-}"
