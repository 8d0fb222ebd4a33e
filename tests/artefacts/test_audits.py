"""What a memory's order costs, on disk: what is written is what is read, of the run that is asked for."""

from __future__ import annotations

import re

import numpy as np
import pytest

from certsmooth.artefacts.audits import ORDER, OrderPart, read_order_cost, write_order_costs
from certsmooth.errors import CountsError
from certsmooth.science.audit.order import order_cost


def cost(shuffles):
    points, order = np.asarray([[0.0], [1.0], [2.0]]), np.arange(3)
    radius, labels = np.asarray([0.9, 0.8, 0.3]), np.asarray([0, 1, 0])
    return order_cost(
        points, labels, radius, labels, order=order, radii=(0.0, 0.5), shuffles=shuffles, seed=0, norm="l2"
    )


PARTS = [OrderPart(cost(shuffles), {"spec": {"shuffles": shuffles}, "checkpoint": "a"}) for shuffles in (1, 2)]


@pytest.fixture
def path(tmp_path):
    write_order_costs(tmp_path / "order.json", PARTS)
    return tmp_path / "order.json"


def test_round_trip(path):
    for part in PARTS:
        assert read_order_cost(path, expect=part.identity) == part.cost
    assert ORDER.read_json(path).keys() == {"parts", "made_by"}


def test_the_cost_of_another_run_is_refused(path):
    for expect, words in (
        ({"spec": {"shuffles": 3}, "checkpoint": "a"}, "spec.shuffles is 1; must be 3"),
        ({"spec": {"shuffles": 2}, "checkpoint": "b"}, "checkpoint is 'a'; must be 'b'"),
        ({"fingerprint": "c"}, "fingerprint is nothing; must be 'c'"),
    ):
        with pytest.raises(CountsError, match=f"^{re.escape(f'{path}: {words}; make it again')}$"):
            read_order_cost(path, expect=expect)


def test_what_is_no_such_file_is_named(path, tmp_path):
    content = ORDER.read_json(path)
    content["parts"][1]["cost"]["conflicts"] = "one"
    ORDER.write_json(path, content)
    with pytest.raises(CountsError, match=rf"^{path}: parts\.1\.cost\.conflicts: "):
        read_order_cost(path, expect=PARTS[0].identity)
    with pytest.raises(CountsError, match=r"none\.json: cannot be read"):
        read_order_cost(tmp_path / "none.json", expect={})
