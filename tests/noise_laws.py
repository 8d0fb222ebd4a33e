"""The law of each member of certsmooth.science.noise at scale 1, for tests that hold for any noise."""

from scipy import stats

LAWS = {"gaussian": stats.norm(), "uniform": stats.uniform(-1, 2)}
