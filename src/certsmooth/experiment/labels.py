"""What the columns Train and Certify of a table show of a method: it follows from the sigma policies."""

from __future__ import annotations

from certsmooth._internal.labels import NO_NOISE, ROUTED, policy_label, uses_noise
from certsmooth.experiment.config import Params


def labels_of(params: Params, method: str) -> tuple[str, str]:
    """Return the labels of sigma in training, ``"none"`` without noise, and in certification.

    Of what others trained, or certified, the first is what params.yaml says; certificates of theirs have a constant
    sigma.

    Args:
        params: the configuration.
        method: a key of ``methods``.

    Raises:
        ConfigError: a policy's file does not say its label.
    """
    if (published := params.published_methods.get(method)) is not None:
        return published.train, policy_label("fixed")
    chosen = params.our_methods[method]
    if (given := params.given_trainings.get(chosen.training)) is not None:
        return given.train, policy_label(chosen.policy.name)
    training = params.our_trainings[chosen.training]
    train = policy_label(training.policy.name) if uses_noise(training.objective.name) else NO_NOISE
    return train, ROUTED if chosen.experts else policy_label(chosen.policy.name)
