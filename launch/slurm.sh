#!/bin/bash
# A run on a Slurm cluster of GPUs: sbatch launch/slurm.sh --config=configs/celeba_bias09.py:256 --workdir=/shared/run
#
# Needs: fairjax with [cuda] in the Python that is found first; a workdir (and data) on a file system
# that all nodes share; one task for each GPU. Change the lines of #SBATCH to your cluster, or
# override them: sbatch --nodes=4 --ntasks-per-node=8 launch/slurm.sh ...
# Prints into slurm-JOB.out: "process 0/16, 1 local and 16 global devices", then the run's log.
# Two minutes before the time is up Slurm sends SIGTERM: all tasks save after the same step and end
# with 143, and the job is put into the queue again, where the same command goes on. So it does after
# a preemption (--requeue). Wrong input (exit code 2) and a diverged training (1) are not repeated.

#SBATCH --job-name=fairjax
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-task=1
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@120
#SBATCH --requeue
#SBATCH --open-mode=append

set -u
cd "${SLURM_SUBMIT_DIR:?Start this script with sbatch}" || exit 2
# A proxy between the nodes keeps the processes from finding each other.
unset http_proxy https_proxy HTTP_PROXY HTTPS_PROXY

# JAX finds coordinator, number and device of each task in what srun sets.
srun --kill-on-bad-exit=0 python launch/train.py --distributed=on "$@"
code=$?
if [ "$code" -eq 143 ]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
