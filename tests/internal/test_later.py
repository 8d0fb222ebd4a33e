"""A field that came later is not in what is written where it says nothing new."""

from dataclasses import asdict, dataclass, field

from certsmooth._internal.later import LATER, stated
from certsmooth.experiment.specs import plain


@dataclass(frozen=True)
class Kept:
    first: int
    later: tuple[int, ...] | None = field(default=None, metadata={LATER: None})


def test_it_is_left_out_at_its_first_value_and_stated_at_others():
    for write in (stated, plain):
        assert write(Kept(1)) == {"first": 1}
    assert stated(Kept(1, (2, 3))) == asdict(Kept(1, (2, 3)))
    assert plain(Kept(1, (2, 3))) == {"first": 1, "later": [2, 3]}
