"""The memory of a session (DDRS, Section 3.5), as `certsmooth.SmoothedClassifier` uses it."""

from certsmooth.memory import Memory

__all__ = ["Memory"]
