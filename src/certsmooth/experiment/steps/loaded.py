"""What steps read before they compute: records, images, base classifiers, policies; and what identifies these."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from certsmooth._internal.later import stated
from certsmooth._internal.storage import file_digest
from certsmooth.artefacts import checkpoint
from certsmooth.artefacts.provenance import made_by
from certsmooth.artefacts.records import Log, read_record
from certsmooth.experiment.build import build
from certsmooth.experiment.specs import DataSpec, SampleSpec, TrainSpec, sources
from certsmooth.experiment.steps.data import load_part, without_fold
from certsmooth.science.datasets import Split
from certsmooth.science.models import BaseClassifier
from certsmooth.science.sigma import SigmaPolicy


class Loaded:
    """Reads what specs name, and checks that it is that; keeps what is likely to be asked for again.

    Args:
        results: the folder of the results.
        device: where base classifiers go.
    """

    def __init__(self, results: Path, device: torch.device) -> None:
        self.results = results
        self.device = device
        self._records: dict[str, dict[str, Any]] = {}
        self._splits: dict[tuple[str, str], Split] = {}
        self._classifier: tuple[str, BaseClassifier, str] | None = None
        self._policy: tuple[str, SigmaPolicy] | None = None

    def record(self, data: DataSpec) -> Mapping[str, Any]:
        """Return the record of a data set.

        Raises:
            DataError: missing, damaged, or of other data.
        """
        if data.key not in self._records:
            self._records[data.key] = read_record(self.results / data.path, spec=data.identity)
        return self._records[data.key]

    def split(self, data: DataSpec, name: str) -> Split:
        """Return a part of a data set.

        Raises:
            DataError: the data are not those of the record.
        """
        if (data.key, name) not in self._splits:
            self._splits[data.key, name] = load_part(data, name, self.record(data))
        return self._splits[data.key, name]

    def classifier(self, base: TrainSpec) -> BaseClassifier:
        """Return a base classifier; the last one is kept.

        Raises:
            CheckpointError: missing, damaged, or another.
        """
        return self._loaded(base)[0]

    def _loaded(self, base: TrainSpec) -> tuple[BaseClassifier, str]:
        if self._classifier is None or self._classifier[0] != base.key:
            path, training = self.results / base.path, self.record(base.data)["parts"]["training"]
            expect = {"spec": base.identity, "dataset_fingerprint": training["fingerprint"]}
            classifier, _ = checkpoint.load(path, expect=expect, device=self.device, trusted=base.trusted)
            self._classifier = base.key, classifier, file_digest(path)
        return self._classifier[1:]

    def policy(self, sampled: SampleSpec) -> SigmaPolicy:
        """Return a sigma policy, fitted to the training images if it uses them; the last one is kept.

        Raises:
            ConfigError: an option is not valid.
        """
        if self._policy is None or self._policy[0] != sampled.key:
            policy: SigmaPolicy = build("sigma", sampled.policy, sigma=sampled.base.sigma, key="policy")
            if policy.uses_training_images:
                training = without_fold(self.split(sampled.base.data, "training"), sampled.base.fold)
                policy = policy.fit(training.images, training.labels)
            self._policy = sampled.key, policy
        return self._policy[1]

    def identity(self, sampled: SampleSpec) -> dict[str, Any]:
        """Return what identifies the counts of a smoothed classifier: see `certsmooth.artefacts.counts`."""
        classifier, digest = self._loaded(sampled.base)
        return {
            **sources(sampled, self.record(sampled.base.data), digest),
            "model": stated(classifier.spec),
            "device": device_name(self.device),
            "torch": torch.__version__,
        }

    def log(self, seconds: list[float]) -> Log:
        """Return how something was made here.

        Args:
            seconds: one per image, or per group of images.
        """
        return Log(seconds=seconds, device=device_name(self.device), threads=torch.get_num_threads(), made_by=made_by())


def device_name(device: torch.device) -> str:
    """Return "cpu", or the name of the GPU."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
