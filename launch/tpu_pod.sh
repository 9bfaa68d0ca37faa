#!/bin/bash
# A run on all hosts of a Cloud TPU slice:
#   TPU=my-slice ZONE=us-west4-a launch/tpu_pod.sh --config=configs/celeba_bias09.py:256 --workdir=/mnt/shared/run
#   TPU=my-slice ZONE=us-west4-a launch/tpu_pod.sh stop
#
# Needs: gcloud, a TPU VM slice that is READY, and on each host a checkout in ~/fairjax with [tpu]
# installed (gcloud compute tpus tpu-vm ssh $TPU --zone=$ZONE --worker=all --command="git clone ... &&
# pip install -e 'fairjax[tpu]'"); a workdir and data that all hosts see (a mounted Filestore).
# Prints what the hosts print: "process 0/64, 4 local and 256 global devices", then the run's log.
# `stop` sends SIGTERM to the run: all hosts save after the same step and end. After that, or after
# the slice was taken away and made anew, the first command goes on. Other settings of gcloud
# (--project) come from `gcloud config`.

set -eu
: "${TPU:?Set TPU to the name of the slice}" "${ZONE:?Set ZONE to its zone}"
if [ $# -eq 0 ]; then
  echo "Give the flags of launch/train.py, or stop" >&2
  exit 2
fi
if [ "$1" = stop ]; then
  remote="pkill -TERM -o -f launch/train.py"
else
  # JAX finds the other hosts in what the TPU's own service says.
  remote="cd fairjax && exec python3 launch/train.py --distributed=on$(printf ' %q' "$@")"
fi
exec gcloud compute tpus tpu-vm ssh "$TPU" --zone="$ZONE" --worker=all --command="$remote"
