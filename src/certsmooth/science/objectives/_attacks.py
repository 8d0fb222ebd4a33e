"""What the objectives with an adversary share: the attack that their options describe, and its growing radius."""

from __future__ import annotations

from typing import cast

from certsmooth._internal.checks import check_choice
from certsmooth._internal.options import option_types
from certsmooth._internal.registry import member, names
from certsmooth.errors import ConfigError
from certsmooth.science.attacks import L2Attack


def build_attack(attacker: str, **options: float | str) -> L2Attack:
    """Return the attack of that name.

    Raises:
        ConfigError: there is none, it does not have one of the options, or a value is not valid.
    """
    check_choice("attacker", attacker, names("attacks"))
    attack = member("attacks", attacker)
    missing = sorted(options.keys() - option_types(attack).keys())
    if missing:
        raise ConfigError(f"attacker: {attacker!r} has no option {missing[0]!r}; must be an attack that has")
    return cast(L2Attack, attack(**options))


def radius_at(epoch: int, *, epsilon: float, warmup_epochs: int) -> float:
    """Return the attack radius of an epoch: epsilon * min(1, (epoch + 1) / warmup_epochs)."""
    return epsilon * min(1.0, (epoch + 1) / warmup_epochs) if warmup_epochs else epsilon
