"""Sampling until it is decided, from the command line: what is written, what a killed run leaves, what is refused."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import yaml
from test_steps import (
    COHEN,
    COHEN_DS,
    certified,
    counts_path,
    elsewhere,
    kill_when,
    make_params,
    trained,
)
from test_steps import folder as folder

from certsmooth.artefacts.counts import read_counts, write_counts
from certsmooth.artefacts.records import read_logs, write_logs
from certsmooth.experiment.cli import main
from certsmooth.science.theory.sequential import SHARE, StoppedTrials, mixture_lower
from factories import write_params

pytestmark = pytest.mark.slow
trained = trained  # the fixture that `folder` starts from

RADII = {"name": "radii", "options": {"radii": [0, 0.1, 0.3]}}


def selected(counts):
    """Successes and trials of the selected class."""
    k = np.take_along_axis(counts.estimation, counts.selection.argmax(axis=1)[:, None], axis=1)[:, 0]
    return k, counts.estimation.sum(axis=1)


@pytest.mark.parametrize("name", [COHEN, COHEN_DS])
def test_a_run_killed_midway_gives_the_same_bytes(folder, name):
    make_params(folder, n=4000, stop=RADII)
    assert main(["sample", name]) == 0
    killed = counts_path(name, results="killed")
    command = ["sample", name, *elsewhere("killed", "data", "checkpoints")]

    def looked():
        journals = list(killed.parent.glob(f".{killed.name}*.journal"))
        return sum(path.read_bytes().count(b'"looked"') for path in journals)

    for looks in (1, 7, 40):
        kill_when(command, lambda looks=looks: looked() > looks)
    assert not killed.exists()
    assert main(command) == 0
    assert killed.read_bytes() == counts_path(name).read_bytes()
    assert not list(killed.parent.glob(".*"))


def test_shards_give_the_rows_of_a_single_run(folder):
    make_params(folder, n=2000, stop=RADII)
    assert main(["sample", COHEN]) == 0
    whole = read_counts(counts_path())
    make_params(folder, n=2000, stop=RADII, shards=2)
    for shard in range(2):
        assert main(["sample", COHEN, "--shard", f"{shard}/2"]) == 0
    for place, one in enumerate(whole):
        found = [read_counts(counts_path(shard=f"{shard}-of-2"))[place].counts for shard in range(2)]
        for column in ("index", "selection", "estimation", "batch_size"):
            joined = np.concatenate([getattr(part, column) for part in found])
            np.testing.assert_array_equal(joined, getattr(one.counts, column))


def test_certificates_are_those_of_stopped_trials_and_say_so(folder):
    make_params(folder, n=2000, stop=RADII)
    for verb in ("sample", "certify"):
        assert main([verb, COHEN]) == 0
    for part in read_counts(counts_path()):
        k, n = selected(part.counts)
        assert (n < 2000).mean() > 0.5  # or there was no point in it
        assert ((n % 100 == 0) & (n >= 100) & (n <= 2000)).all()
        frame = certified()[part.identity["spec"]["split"]].frame
        np.testing.assert_array_equal(frame["n"], n)
        lower = StoppedTrials(2000).lower(k, n, alpha=0.001)
        assert ((frame["p_a_lower"] <= lower) & (frame["p_a_lower"] > lower - 0.01)).all()  # less the cost of the grid
        assert set(frame["guarantee"]) == {"global"}
        assert part.identity["spec"]["stop"]["rule"] == {"name": "radii", "options": {"radii": [0, 0.1, 0.3]}}


def test_a_raised_n_goes_on_from_what_was_drawn_with_the_bound_that_holds_at_any_time(folder):
    make_params(folder, n=400)
    assert main(["sample", COHEN]) == 0
    first = {part.identity["spec"]["split"]: part.counts for part in read_counts(counts_path())}
    make_params(folder, n=3000, stop=RADII)
    for verb in ("sample", "certify"):
        assert main([verb, COHEN]) == 0
    raised = read_counts(counts_path())
    assert main(["sample", COHEN]) == 0
    assert [part.identity for part in read_counts(counts_path())] == [part.identity for part in raised]
    Path("results/counts").rename("raised")
    make_params(folder, n=3000)
    assert main(["sample", COHEN]) == 0
    fixed = {part.identity["spec"]["split"]: part.counts for part in read_counts(counts_path())}
    for part in raised:
        split = part.identity["spec"]["split"]
        assert part.identity["n_before"] == [400]
        k, n = selected(part.counts)
        same, whole = n == 400, n == 3000
        assert 0 < whole.sum() < same.sum()
        np.testing.assert_array_equal(part.counts.estimation[same], first[split].estimation[same])
        np.testing.assert_array_equal(part.counts.estimation[whole], fixed[split].estimation[whole])
        frame = certified()[split].frame
        lower = mixture_lower(k, n, alpha=SHARE * 0.001)
        assert ((frame["p_a_lower"] <= lower) & (frame["p_a_lower"] > lower - 0.01)).all()


@pytest.mark.parametrize("before", [450, 3000])
def test_an_n_that_was_chosen_beside_other_counts_is_no_end(folder, before):
    """Samples that cannot be gone on from, of half a block or of a larger n, could be looked at all the same."""
    make_params(folder, n=before)
    assert main(["sample", COHEN]) == 0
    make_params(folder, n=2000, stop=RADII)
    for verb in ("sample", "certify"):
        assert main([verb, COHEN]) == 0
    for part in read_counts(counts_path()):
        assert part.identity["n_before"] == [before]
        k, n = selected(part.counts)
        assert ((n % 100 == 0) & (n <= 2000)).all()
        frame = certified()[part.identity["spec"]["split"]].frame
        assert (frame["p_a_lower"] <= mixture_lower(k, n, alpha=SHARE * 0.001)).all()
        assert (frame["p_a_lower"][n == 2000] < StoppedTrials(2000).lower(k, n, alpha=0.001)[n == 2000] - 1e-4).any()


def test_what_was_decided_by_two_rules_is_not_brought_together(folder, capsys):
    make_params(folder, n=1000, stop=RADII, shards=2)
    assert main(["sample", COHEN, "--shard", "0/2"]) == 0
    other = {"name": "radius", "options": {"radius": 0.1}}
    make_params(folder, n=1000, stop=other, shards=2)
    assert main(["sample", COHEN, "--shard", "1/2"]) == 0
    assert main(["certify", COHEN]) == 2
    message = capsys.readouterr().err
    assert all(word in message for word in (str(counts_path(shard="0-of-2")), "stop", "radii", "radius"))


def test_more_samples_than_n_and_none_are_refused(folder, capsys):
    make_params(folder, n=1000, stop=RADII)
    assert main(["sample", COHEN]) == 0
    parts, logs = read_counts(counts_path()), read_logs(counts_path())
    for row in ([0] * 9 + [1001], [0] * 10):
        changed = parts[0].counts.estimation.copy()
        changed[3] = row
        wrong = dataclasses.replace(parts[0], counts=dataclasses.replace(parts[0].counts, estimation=changed))
        write_counts(counts_path(), [wrong, *parts[1:]])
        write_logs(counts_path(), logs)
        assert main(["certify", COHEN]) == 2
        message = capsys.readouterr().err
        assert all(word in message for word in (str(counts_path()), "estimation of row 3", "1 to 1000 samples"))


@pytest.mark.parametrize(
    ("stop", "words"),
    [
        ({"name": "radus"}, ["datasets.digits.certification.stop", "radus", "did you mean 'radius'"]),
        ({"name": "radius"}, ["datasets.digits.certification.stop", "missing key 'radius'"]),
        ({"name": "radius", "options": {"radius": 3.0}}, ["for method 'cohen", "radius: 3", "at most 0.6013"]),
        ({"name": "radii", "options": {"radii": [0.1, 2.5]}}, ["radius: 2.5", "at most 0.6013"]),
        ({"name": "precision", "options": {"within": 0}}, ["within: 0", "> 0"]),
        ({"name": "radii", "options": {"chances": 0.1}}, ["chances", "did you mean 'chance'"]),
    ],
)
def test_rules_that_make_no_sense_are_refused_before_anything_runs(folder, capsys, stop, words):
    make_params(folder, n=1000, stop=stop)
    assert main(["check"]) == 2
    message = capsys.readouterr().err
    assert all(word in message for word in words), message


def test_a_certificate_about_a_fixed_n_is_refused(folder, capsys):
    make_params(folder, n=1000, stop=RADII)
    assert main(["check"]) == 0, capsys.readouterr().err  # the shipped T-CERTIFY is sampled with all n
    content = yaml.safe_load(Path("params.yaml").read_text())
    del content["methods"]["t-certify"]["certification"]["stop"]
    write_params(folder, content)
    assert main(["check"]) == 2
    message = capsys.readouterr().err
    assert all(word in message for word in ("t-certify", "stop 'fixed'")), message
