#!/usr/bin/env bash
# What is to be measured on a GPU: correctness there, throughput of sampling and training, and CIFAR-10
# (examples/cifar10-gpu.yaml) to its certificates. Each part is stopped at its limit, 530 seconds in all, and writes a log;
# one that fails or is late stops no other.
#
#     benchmarks/gpu.sh OUT CIFAR10    OUT: a folder for logs and counts; CIFAR10: a local copy of the images
#     TINY=1 benchmarks/gpu.sh OUT CIFAR10     the same in small, to test it on a CPU with some hundred images
#
# Counts and certificates come back, checkpoints do not. The table is made of them in OUT/run: `certsmooth table cifar10`.
set -u
root=$(cd "$(dirname "$0")/.." && pwd)
out=$(mkdir -p "$1" && cd "$1" && pwd) cifar10=$(realpath "$2")
export PYTHONPATH="$root/src${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
tiny=${TINY:+1}

part() {  # NAME SECONDS COMMAND...
  local name=$1 limit=$2 since=$SECONDS rc=0
  shift 2
  timeout --signal INT --kill-after 20 "$limit" "$@" >"$out/$name.log" 2>&1 || rc=$?
  echo "$name: $((SECONDS - since)) s, exit status $rc"
  tr '\r' '\n' <"$out/$name.log" | grep -v 'it/s\|image/s\|batch/s' | tail -n 30
}

verb() { python -m certsmooth.experiment.cli "$@"; }

cifar10() {
  mkdir -p "$out/run" && cd "$out/run" && ln -sfn "$root/config" config
  python - <<'PARAMS' >params.yaml || return
import os, yaml
params = yaml.safe_load(open(f"{os.environ['root']}/examples/cifar10-gpu.yaml"))
data = params["datasets"]["cifar10"]
data["source"] = os.environ["cifar10"]
if os.environ["tiny"]:
    data["validation"] = 0.05
    data["recipe"] |= {"epochs": 1, "adaptive_from_epoch": 0}
    data["certification"] |= {"stride": 10, "n0": 20, "n": 500}
    params["methods"]["cohen-ds"]["policy"]["options"]["iterations"] = [3]
print(yaml.safe_dump(params))
PARAMS
  verb data cifar10 || return
  for training in gaussian smoothadv; do
    for sigma in 0.25 0.5; do verb train "cifar10/$training/sigma=$sigma/seed=0/default" || return; done
    [ "$training" = gaussian ] && methods="cohen cohen-ds" || methods=smoothadv
    for method in $methods; do
      verb sample "cifar10/$method/seed=0" && verb certify "cifar10/$method/seed=0" || return
    done
  done
  rm -rf data
  find results -name '*.safetensors' -delete
}
export -f cifar10 verb
export out root tiny cifar10

part correctness "${tiny:+9}90" python "$root/benchmarks/gpu_correctness.py" ${tiny:+--numbers 100000 --samples 500}
part sampling "${tiny:+9}80" python "$root/benchmarks/sampling.py" --rounds 1 ${tiny:+--only digits}
part training "${tiny:+9}60" python "$root/benchmarks/training.py" --rounds 1 ${tiny:+--only digits}
part cifar10 "${tiny:+9}300" bash -c cifar10
