"""Configurations: the shipped one, the same with little work, and one with one of everything that is checked fast."""

from __future__ import annotations

import copy
import json
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from certsmooth.experiment.library import read_content
from certsmooth.experiment.like import written_out
from factories.places import ROOT

SMALL = """\
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
  peer: {given: peer.safetensors}
methods:
  cohen: {label: Cohen, training: gaussian, policy: {name: fixed}, certificate: {name: cohen}}
  cohen-ds:
    label: Cohen-DS
    training: gaussian
    policy: {name: data_dependent, options: {iterations: [1, 2], samples: 1, step: 0.001, variant: class_held}}
    certificate: {name: cohen}
    memory: shuffled
    certification: {n0: 20}
  theirs: {label: Published, certificates: published.tsv, sigma: 0.5, dataset: digits, norm: l2, train: FS}
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
  rates: {kind: accuracy, title: Rates, methods: [cohen], baseline: cohen, training_seeds: [0, 1],
    certification_seeds: [0], datasets: [cones],
    published: [{paper: idrs, table: 2}]}
  promises: {kind: soundness, title: Promises, methods: [cohen], predict: {n: 100, alpha: 0.01}, stride: 1, shuffles: 2}
pictures: {method: cohen-ds, datasets: [digits]}
high_dimension:
  method: cohen
  published: [theirs]
  dimension: 100
  rates: [0, 0.001]
  radii: [0, 0.5]
"""

Key = str | tuple[str | int, ...]
"""Of a value: its parts, or these with dots between them."""


def small_content() -> dict[str, Any]:
    """Return the configuration with one of everything; no part of it is in two places."""
    return json.loads(_small())


def shipped_content() -> dict[str, Any]:
    """Return params.yaml and its library as the content of one params.yaml; no part of it is in two places."""
    return json.loads(_shipped())


@cache
def _small() -> str:
    return json.dumps(written_out(yaml.safe_load(SMALL)))


@cache
def _shipped() -> str:
    """As JSON: YAML is slow to read."""
    return json.dumps(read_content(ROOT / "params.yaml").whole())


def digits_content(*, epochs: int = 2, sigma: float = 0.25, **certification: Any) -> dict[str, Any]:
    """Return the shipped configuration with one sigma for digits and few epochs, the last with a sigma per image.

    Args:
        epochs: of each training.
        sigma: the only one.
        certification: what else than the shipped values digits are certified with.
    """
    content = shipped_content()
    digits = content["datasets"]["digits"]  # digits-half-labelled is like it
    digits["sigmas"] = [sigma]
    digits["recipe"] |= {"epochs": epochs, "adaptive_from_epoch": epochs - 1}
    digits["certification"] |= certification
    return content


def plain_yaml(content: Any) -> str:
    """Return content as YAML in which nothing stands for something else, whatever it shares."""
    return yaml.safe_dump(json.loads(json.dumps(content)), sort_keys=False, allow_unicode=True)


def write_params(folder: Path, content: Any) -> Path:
    """Write content as the params.yaml of a folder without a library; return its path."""
    path = folder / "params.yaml"
    path.write_text(plain_yaml(content))
    return path


def changed(whole: dict[str, Any], key: Key, value: object) -> dict[str, Any]:
    """Return a copy with another value at a key, or a new one."""
    result = copy.deepcopy(whole)
    here, last = _at(result, key)
    here[last] = value
    return result


def renamed(whole: dict[str, Any], key: Key, name: object) -> dict[str, Any]:
    """Return a copy with the last part of a key renamed, in its place."""
    result = copy.deepcopy(whole)
    here, last = _at(result, key)
    items = list(here.items())
    here.clear()
    here.update((name if each == last else each, value) for each, value in items)
    return result


def _at(whole: dict[str, Any], key: Key) -> tuple[Any, str | int]:
    """Return what holds a value, and the last part of its key."""
    *path, last = key.split(".") if isinstance(key, str) else key
    here: Any = whole
    for part in path:
        here = here[part]
    return here, last
