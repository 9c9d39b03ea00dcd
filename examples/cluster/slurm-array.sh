#!/bin/bash
# An album in parts, one array task each, one GPU a task:
#   sbatch --array=0-7 slurm-array.sh album restored 8
# Tasks that were killed or failed are submitted again by their numbers, with the same number of parts:
#   sbatch --array=2,5 slurm-array.sh album restored 8
#SBATCH --job-name=supir
#SBATCH --cpus-per-task=4
#SBATCH --mem=24G
#SBATCH --gpus-per-task=1
#SBATCH --time=08:00:00
#SBATCH --requeue
#SBATCH --signal=B:TERM@60
#SBATCH --output=supir-%A_%a.txt
set -euo pipefail
album=$1 results=$2 parts=$3
mkdir -p "$results/logs"
# The shell hands the signal on: the step under way is kept in --state, and the same command goes on from it.
${SUPIR:-npx supir} restore "$album" --recursive -o "$results" --shard "auto/$parts" \
  --skip-existing --state "$results/.state/$SLURM_ARRAY_TASK_ID" --log "$results/logs/$SLURM_ARRAY_TASK_ID.jsonl" --quiet ${SUPIR_OPTIONS:-} &
process=$!
trap 'kill -TERM $process' TERM
code=0
wait $process || code=$?
if kill -0 $process 2>/dev/null; then code=0; wait $process || code=$?; fi
exit $code
