"""How tables call sigma policies: read from the members' files, because a table needs no torch, which they import."""

from __future__ import annotations

from collections.abc import Iterable

from certsmooth._internal.registry import literal, names

NO_NOISE = "none"
"""In place of a policy's label, for training without noise."""


ROUTED = "router"
"""In place of a policy's label, where a router chooses between smoothed classifiers."""


def policy_label(name: str) -> str:
    """Return the short label of a sigma policy, for example ``"FS"``.

    Raises:
        ConfigError: no such policy, or its file does not say it.
    """
    return str(literal("sigma", name, "label"))


def uses_noise(objective: str) -> bool:
    """Return whether a training objective uses noise.

    Raises:
        ConfigError: no such objective.
    """
    return bool(literal("objectives", objective, "uses_noise", default=True))


def legend(labels: Iterable[str]) -> str:
    """Return what labels stand for, one sentence each, in their order; those of no policy here are left out."""
    known = {NO_NOISE: "training without noise", ROUTED: "a router, itself certified, chooses the expert of each image"}
    for name in names("sigma"):
        known.setdefault(policy_label(name), str(literal("sigma", name, "legend")))
    return " ".join(f"{label}: {known[label]}." for label in dict.fromkeys(labels) if label in known)
