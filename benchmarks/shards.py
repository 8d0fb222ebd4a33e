"""What shards gain and cost, through the real workflow, on digits, on this machine in this run.

(a) the sampling of 201 images (200 of validation and one of the test) as one job on one core, (b) as two jobs on two
cores, (c) and (d) with next to nothing to sample, as one job and as four, one after the other: what a job costs beside
its samples. Rounds alternate and the best of each counts, so that a drift of the machine's speed hits all.

    python benchmarks/shards.py [--rounds 3]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
import yaml

from _rows import head, row
from certsmooth.experiment.library import read_content

ROOT = Path(__file__).resolve().parents[1]
SHIPPED = ("Snakefile", "workflow")
RUN = "digits/cohen/seed=0"
SAMPLES = 33_000  # per image: about 25 seconds for 200 images on one core


def make_project(folder: Path) -> None:
    """Copy the workflow, with one table of one method at one sigma, and train its classifier."""
    for name in SHIPPED:
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, folder / name)
    params = read_content(ROOT / "params.yaml").whole()
    digits = params["datasets"]["digits"]
    digits |= {"sigmas": [0.25], "validation": 0.139}  # 200 images: four groups, so that two shards are alike
    digits["certification"]["stride"] = 360  # of the test images, one
    digits["recipe"] |= {"epochs": 1, "adaptive_from_epoch": 0}
    params["tables"] = {"table1": params["tables"]["table1"] | {"methods": ["cohen"]}}
    params["toy"] = params["high_dimension"] = None
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    run(folder, ["results/checkpoints/digits/gaussian/sigma=0.25/seed=0/default/model.safetensors"], "--cores", "1")


def run(folder: Path, targets: list[str], *options: str) -> float:
    """Return the seconds that Snakemake takes to make some files."""
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    command = ["snakemake", "--quiet", "all", *options, "--", *targets]
    since = time.perf_counter()
    subprocess.run(command, cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - since


def sample(folder: Path, *, samples: int, shards: int, cores: int) -> tuple[float, float]:
    """Return the seconds of the whole call, and those that the busiest job spent on its samples."""
    params = yaml.safe_load((folder / "params.yaml").read_text())
    params["datasets"]["digits"]["certification"] |= {"n": samples, "shards": shards}
    (folder / "params.yaml").write_text(yaml.safe_dump(params))
    shutil.rmtree(folder / "results/counts", ignore_errors=True)
    stems = [f"results/counts/{RUN}/{shard}-of-{shards}" for shard in range(shards)]
    targets = [f"{stem}.parquet" for stem in stems]
    run(folder, targets, "--dry-run")  # the options of params.yaml are checked once for each of its contents
    seconds = run(folder, targets, "--cores", str(cores))
    logs = [json.loads((folder / f"{stem}.log.json").read_text()) for stem in stems]
    return seconds, max(sum(sum(part["seconds"]) for part in log["parts"]) for log in logs)


CASES = {
    "(a) 1 job, 1 core": {"samples": SAMPLES, "shards": 1, "cores": 1},
    "(b) 2 jobs, 2 cores": {"samples": SAMPLES, "shards": 2, "cores": 2},
    "(c) 1 empty job, 1 core": {"samples": 1, "shards": 1, "cores": 1},
    "(d) 4 empty jobs, 1 core": {"samples": 1, "shards": 4, "cores": 1},
}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    print(f"torch {torch.__version__}, Python {platform.python_version()}, {os.cpu_count()} CPU cores")
    best = dict.fromkeys(CASES, (float("inf"), float("inf")))
    head("", "call / s", "samples / s")
    with tempfile.TemporaryDirectory() as name:
        make_project(Path(name))
        for _ in range(rounds):
            for case, settings in CASES.items():
                found = sample(Path(name), **settings)
                best[case] = min(best[case], found)
                row(case, *(f"{seconds:.1f}" for seconds in found))
    row("the best of each:", "", "")
    for case, found in best.items():
        row(case, *(f"{seconds:.1f}" for seconds in found))
    (one, work), (two, half), (empty, _), (four, _) = best.values()
    each = (four - empty) / 3
    print(f"speed-up of two shards on two cores: {one / two:.2f} of the call, {work / half:.2f} of the samples alone")
    print(f"a job costs {each:.1f} s beside its samples, a call of Snakemake {empty - each:.1f} s")


if __name__ == "__main__":
    main()
