"""A configuration with one of everything, small enough to be checked hundreds of times."""

from __future__ import annotations

import copy
from typing import Any

import yaml

from certsmooth.experiment.like import written_out

TEXT = """\
dataset: digits
seed: 0
training_seeds: [0]
datasets:
  digits:
    source: null
    options: {}
    validation: 0.1
    sigmas: [0.25]
    radii: [0, 0.25, 0.5]
    architecture: mlp
    normalisation: {mean: [0.5], std: [0.3]}
    numeric_type: float32
    channels_last: false
    recipe: {epochs: 2, batch_size: 64, optimizer: adamw, learning_rate: 0.01, augmentation: [crop], padding: 1}
    certification: {n0: 10, n: 100, alpha: 0.05, stride: 60, shards: 1}
    member: digits
    unlabelled: {share: 0.5}
    trainings: {smoothadv: {objective: {samples: 1}}}
    methods: {cohen-ds: {policy: {iterations: [2]}, certification: {n: 90}}}
  cones: {like: digits, member: cones, normalisation: null, unlabelled: null, options: {dimension: 2},
    recipe: {epochs: 2, batch_size: 64, learning_rate: 0.01},
    trainings: {smoothadv: {objective: {clamp: false}}}, methods: {}}
  mnist: {like: digits, member: null, unlabelled: {source: images.npz}}
trainings:
  gaussian: {objective: {name: gaussian}, policy: {name: fixed}}
  smoothadv:
    objective: {name: smoothadv, options: {attacker: pgd, estimator: plug_in, epsilon: [0.1, 0.2], steps: 1}}
    policy: {name: data_dependent, options: {iterations: 1, samples: 1, step: 0.001, variant: class_held}}
  continued: {objective: {name: gaussian}, policy: {name: fixed}, start: {training: gaussian}, teacher: gaussian}
  pretrained: {objective: {name: gaussian}, policy: {name: fixed}, start: {checkpoint: start.safetensors}}
methods:
  cohen: {label: Cohen, training: gaussian, policy: {name: fixed}, certificate: {name: cohen}}
  cohen-ds:
    label: Cohen-DS
    training: gaussian
    policy: {name: data_dependent, options: {iterations: [1, 2], samples: 1, step: 0.001, variant: class_held}}
    certificate: {name: cohen}
    memory: shuffled
    certification: {n0: 20}
tables:
  table1:
    kind: certified
    title: A table
    methods: [cohen, cohen-ds]
    baseline: cohen
    norm: null
    published: {paper: ddrs, table: 1, dataset: cifar10}
    settings: {digits: {dataset: digits, sigmas: [0.25], radii: [0.1]}}
  empirical:
    kind: empirical
    title: Attacks
    methods: [cohen]
    attacks: {smoothed: {label: PGD, attack: {name: pgd, options: {steps: 2}}, samples: [1]}}
    predict: {n: 100, alpha: 0.01}
    stride: 1
  rates: {kind: accuracy, title: Rates, methods: [cohen], baseline: cohen, training_seeds: [0, 1], datasets: [cones],
    published: [{paper: idrs, table: 2}]}
  promises: {kind: soundness, title: Promises, methods: [cohen], predict: {n: 100, alpha: 0.01}, stride: 1, shuffles: 2}
high_dimension:
  method: cohen
  published: [{file: published.tsv, sigma: 0.5, label: Published}]
  dimension: 100
  rates: [0, 0.001]
  radii: [0, 0.5]
"""

Path = tuple[str | int, ...]


def content() -> dict[str, Any]:
    """Return the configuration; no part of it is in two places."""
    loaded: dict[str, Any] = _apart(written_out(yaml.safe_load(TEXT)))
    return loaded


def _apart(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _apart(each) for key, each in value.items()}
    return [_apart(each) for each in value] if isinstance(value, list) else value


def changed(whole: dict[str, Any], path: Path, value: object) -> dict[str, Any]:
    """Return a copy with another value at a path, or a new one."""
    result = copy.deepcopy(whole)
    _at(result, path[:-1])[path[-1]] = value
    return result


def renamed(whole: dict[str, Any], path: Path, name: object) -> dict[str, Any]:
    """Return a copy with the last key of a path renamed, in its place."""
    result = copy.deepcopy(whole)
    here = _at(result, path[:-1])
    items = list(here.items())
    here.clear()
    here.update((name if key == path[-1] else key, value) for key, value in items)
    return result


def _at(whole: dict[str, Any], path: Path) -> Any:
    here: Any = whole
    for part in path:
        here = here[part]
    return here
