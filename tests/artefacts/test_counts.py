"""Counts on disk: never wrong numbers, whatever happens to the file or to the run that writes it."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import resource
import signal
import subprocess
import sys

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from certsmooth.artefacts.attacks import AttackCounts
from certsmooth.artefacts.counts import COUNTS, CountsJournal, CountsPart, read_counts, write_counts
from certsmooth.errors import CountsError
from certsmooth.science.sampling.counts import Counts, concatenate
from factories import IDENTITY, random_counts

OTHER = {**IDENTITY, "shard": [1, 4]}
FIELDS = tuple(field.name for field in dataclasses.fields(Counts))


def same(first, second):
    return all(
        getattr(first, name).dtype == getattr(second, name).dtype
        and np.array_equal(getattr(first, name), getattr(second, name))
        for name in FIELDS
    )


def parts(identity=IDENTITY):
    return [CountsPart(random_counts(), identity), CountsPart(random_counts(3, seed=1), OTHER)]


def same_parts(found, right):
    return [part.identity for part in found] == [part.identity for part in right] and all(
        same(first.counts, second.counts) for first, second in zip(found, right, strict=True)
    )


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    path = tmp_path_factory.mktemp("counts") / "counts.parquet"
    write_counts(path, parts())
    return path, path.read_bytes()


@contextlib.contextmanager
def file_size_limit(size):
    """A disk that is full: no file may grow beyond ``size``."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


# --- the counts of a finished run


@settings(max_examples=40, deadline=None)
@given(
    images=st.lists(st.integers(0, 60), min_size=1, max_size=4).filter(any),
    classes=st.integers(2, 12),
    seed=st.integers(0, 2**32),
)
def test_round_trip(tmp_path_factory, images, classes, seed):
    path = tmp_path_factory.mktemp("round") / "counts.parquet"
    parts = [
        CountsPart(random_counts(n, classes, seed + i), {**IDENTITY, "shard": [i, 4]}) for i, n in enumerate(images)
    ]
    write_counts(path, parts)
    found = read_counts(path)
    assert same_parts(found, parts)
    assert [COUNTS.find(path, [each.identity for each in found], part.identity) for part in parts] == list(
        range(len(parts))
    )


def test_a_file_of_a_shard_without_images(tmp_path):
    """There may be more shards than groups of images."""
    path = tmp_path / "counts.parquet"
    write_counts(path, [CountsPart(random_counts(0), IDENTITY), CountsPart(random_counts(0), OTHER)])
    found = read_counts(path)
    assert [(len(part.counts), part.identity) for part in found] == [(0, IDENTITY), (0, OTHER)]
    assert same(concatenate([found[0].counts, random_counts()]), random_counts())


def test_same_content_has_the_same_bytes(written, tmp_path):
    path = tmp_path / "again.parquet"
    write_counts(path, parts(dict(reversed(IDENTITY.items()))))
    assert path.read_bytes() == written[1]
    write_counts(path, parts({**IDENTITY, "n": 101}))
    assert path.read_bytes() != written[1]
    write_counts(path, parts()[::-1])
    assert path.read_bytes() != written[1]


def test_any_reader_of_parquet_can_read_it(written):
    frame, counts = pd.read_parquet(written[0]), concatenate([part.counts for part in parts()])
    assert frame["part"].tolist() == [0] * 4 + [1] * 3
    assert frame["predict"].tolist() == counts.selection.argmax(axis=1).tolist()
    assert frame["estimation"].map(list).tolist() == counts.estimation.tolist()


def test_predict_is_the_most_frequent_class_and_the_first_of_equals():
    counts = dataclasses.replace(random_counts(3), selection=np.array([[0, 5, 5], [1, 0, 0], [2, 3, 9]]))
    assert counts.predict.tolist() == [1, 0, 2]


def test_parts_are_joined_in_order():
    parts = [random_counts(images, seed=images) for images in (3, 1, 2)]
    joined = concatenate(parts)
    assert len(joined) == 6
    for name in FIELDS:
        assert getattr(joined, name).tolist() == [v for part in parts for v in getattr(part, name).tolist()]


def read_bytes(path, content):
    path.write_bytes(content)
    return read_counts(path)


@pytest.mark.slow
@settings(max_examples=400, deadline=None)
@given(data=st.data())
def test_a_changed_byte_is_noticed_or_changes_nothing(written, data):
    path, content = written
    at = data.draw(st.integers(0, len(content) - 1), label="byte")
    damaged = bytearray(content)
    damaged[at] ^= data.draw(st.integers(1, 255), label="bits")
    check_damaged(path.with_name("damaged.parquet"), bytes(damaged))


@pytest.mark.slow
def test_a_changed_bit_of_the_metadata_is_noticed_or_changes_nothing(written):
    """All of it: that is where the identity lies."""
    path, content = written
    for at in range(content.index(b"certsmooth"), len(content)):
        damaged = bytearray(content)
        damaged[at] ^= 1
        check_damaged(path.with_name("metadata.parquet"), bytes(damaged))


def check_damaged(path, content):
    try:
        found = read_bytes(path, content)
    except CountsError as error:
        assert str(path) in str(error)
    else:
        assert same_parts(found, parts())


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_a_truncated_file_is_refused(written, data):
    path, content = written
    damaged = path.with_name("truncated.parquet")
    with pytest.raises(CountsError, match=str(damaged)):
        read_bytes(damaged, content[: data.draw(st.integers(0, len(content) - 1))])


@pytest.mark.parametrize("column", FIELDS)
def test_another_number_is_noticed(written, tmp_path, column):
    """Whoever edits a column with another program, and keeps the metadata."""
    table = pq.read_table(written[0])
    values = table[column].to_pylist()
    values[1] = [v + 1 for v in values[1]] if isinstance(values[1], list) else values[1] + 1
    position = table.schema.get_field_index(column)
    table = table.set_column(position, table.schema.field(position), pa.array(values, table.schema.types[position]))
    path = tmp_path / "edited.parquet"
    pq.write_table(table, path)
    with pytest.raises(CountsError, match=rf"{path}: .*checksum"):
        read_counts(path)


def of_part(header, **changes):
    return {**header, "parts": [{**header["parts"][0], **changes}, *header["parts"][1:]]}


@pytest.mark.parametrize(
    "edit",
    [
        lambda header: of_part(header, identity={**IDENTITY, "dataset": "mnist"}),
        lambda header: of_part(header, identity=[]),
        lambda header: of_part(header, rows=3),
        lambda header: of_part(header, rows="x"),
        lambda header: {**header, "parts": header["parts"][::-1]},
        lambda header: {**header, "parts": header["parts"][:1]},
        lambda header: {**header, "parts": [*header["parts"], {"rows": 0, "identity": IDENTITY}]},
        lambda header: {**header, "parts": 1},
        lambda header: {**header, "sha256": "0" * 64},
        lambda header: {**header, "format": "counts 1"},
        lambda header: {key: value for key, value in header.items() if key != "sha256"},
        lambda header: {key: value for key, value in header.items() if key != "parts"},
        lambda header: {key: value for key, value in header.items() if key != "format"},
        lambda header: [header],
    ],
)
def test_another_identity_is_noticed(written, tmp_path, edit):
    table = pq.read_table(written[0])
    header = edit(json.loads(table.schema.metadata[b"certsmooth"]))
    path = tmp_path / "edited.parquet"
    pq.write_table(table.replace_schema_metadata({"certsmooth": json.dumps(header)}), path)
    with pytest.raises(CountsError, match=str(path)):
        read_counts(path)


def test_other_files_are_refused(tmp_path):
    frame = tmp_path / "frame.parquet"
    pd.DataFrame({name: [1, 2] for name in (*FIELDS, "predict")}).to_parquet(frame)
    text = tmp_path / "counts.json"
    text.write_text("{}")
    for path in (frame, text):
        with pytest.raises(CountsError, match=rf"{path}: truncated, altered, or not 'counts 3' .*; sample it again"):
            read_counts(path)
    for path, reason in ((tmp_path / "absent.parquet", "No such file or directory"), (tmp_path, "Is a directory")):
        with pytest.raises(CountsError, match=rf"{path}: cannot be read: {reason}; sample it again"):
            read_counts(path)


def test_counts_of_something_else_are_refused(written):
    for change, words in (
        ({"dataset": "mnist"}, "dataset is 'digits'; must be 'mnist'"),
        ({"n": 1000}, "n is 100; must be 1000"),
        ({"policy": {"name": "fixed", "sigma": 0.5}}, "policy.sigma is 0.25; must be 0.5"),
        ({"absent": 1}, "absent is nothing; must be 1"),
        ({"shard": [2, 4]}, "shard is [0, 4]; must be [2, 4]"),
    ):
        with pytest.raises(CountsError) as caught:
            COUNTS.find(written[0], [part.identity for part in read_counts(written[0])], {**IDENTITY, **change})
        assert str(caught.value) == f"{written[0]}: {words}; sample it again"


def test_a_table_of_another_kind_is_named(tmp_path):
    path = tmp_path / "a.parquet"
    numbers, reals = np.zeros(1, np.int64), np.zeros(1)
    table = AttackCounts(numbers, numbers, numbers, reals, reals, reals, np.zeros((1, 2), np.int64), numbers)
    AttackCounts.write(path, [(table, IDENTITY)])
    with pytest.raises(CountsError, match=rf"{path}: holds 'attacks 3'; must be 'counts 3'"):
        read_counts(path)


def test_a_full_disk_leaves_the_old_counts(written, tmp_path):
    path = tmp_path / "counts.parquet"
    path.write_bytes(written[1])
    with file_size_limit(500), pytest.raises(CountsError, match=f"{path}: cannot be written"):
        write_counts(path, [CountsPart(random_counts(400), IDENTITY)])
    assert path.read_bytes() == written[1]
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_a_folder_that_is_not_there_is_named(tmp_path):
    path = tmp_path / "absent" / "counts.parquet"
    with pytest.raises(CountsError, match=str(path)):
        write_counts(path, parts())
    with pytest.raises(CountsError, match=f"{path.parent}.*cannot be written"), CountsJournal(path, IDENTITY):
        pass


# --- the journal of a run that is not finished


def row(position):
    return {
        "position": position,
        "index": 10 * position,
        "label": position % 3,
        "sigma": 0.1 + position / 7,
        "constant_within": position / 3 if position else float("inf"),
        "selection": [position, 1, 2],
        "estimation": [position, 100, 3],
        "batch_size": 400,
        "seconds": 0.5,
    }


ENTRIES = [
    {"position": 0, "sigmas": [0.1, 1 / 3], "constant_within": [float("inf"), 0.5]},
    row(0),
    row(1),
    {"position": 50, "sigmas": [0.25], "constant_within": [0.0]},
    *map(row, range(2, 9)),
]


def journal(folder, entries=(), identity=IDENTITY):
    """Write entries and return the journal, closed."""
    with CountsJournal(folder / "counts.parquet", identity) as opened:
        for entry in entries:
            opened.append(entry)
    return opened


def check_holds(found, entries):
    assert found.rows == {e["position"]: e for e in entries if "sigmas" not in e}
    assert found.sigmas == {e["position"]: (e["sigmas"], e["constant_within"]) for e in entries if "sigmas" in e}


def test_rows_are_there_when_it_is_opened_again(tmp_path):
    check_holds(journal(tmp_path, ENTRIES[:5]), ENTRIES[:5])
    check_holds(journal(tmp_path), ENTRIES[:5])
    check_holds(journal(tmp_path, ENTRIES[5:]), ENTRIES)
    check_holds(journal(tmp_path), ENTRIES)


def test_counts_are_the_rows_in_the_order_asked_for(tmp_path):
    counts = journal(tmp_path, ENTRIES).counts([5, 0, 8])
    assert counts.index.tolist() == [50, 0, 80]
    assert counts.sigma.tolist() == [0.1 + 5 / 7, 0.1, 0.1 + 8 / 7]
    assert counts.selection.tolist() == [[5, 1, 2], [0, 1, 2], [8, 1, 2]]
    assert counts.estimation.tolist() == [[5, 100, 3], [0, 100, 3], [8, 100, 3]]
    assert same(counts, journal(tmp_path).counts([5, 0, 8]))


def lines(content):
    return content.splitlines(keepends=True)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_torn_line_is_dropped(tmp_path_factory, data):
    """Killed at any byte: what was complete is kept, and the run goes on."""
    folder = tmp_path_factory.mktemp("torn")
    path = journal(folder, ENTRIES).path
    content = path.read_bytes()
    size = data.draw(st.integers(0, len(content)))
    path.write_bytes(content[:size])
    complete = content[:size].count(b"\n")
    check_holds(journal(folder, ENTRIES[complete:]), ENTRIES)
    assert path.read_bytes() == content


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_a_changed_byte_drops_the_rows_from_there_on(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("flipped")
    path = journal(folder, ENTRIES).path
    content = path.read_bytes()
    at = data.draw(st.integers(0, len(content) - 1), label="byte")
    damaged = bytearray(content)
    damaged[at] ^= data.draw(st.integers(1, 255), label="bits")
    path.write_bytes(bytes(damaged))
    before = content[:at].count(b"\n")
    check_holds(journal(folder, ENTRIES[before:]), ENTRIES)
    assert path.read_bytes() == content


def test_a_journal_is_of_one_identity(tmp_path):
    first = journal(tmp_path, ENTRIES)
    second = journal(tmp_path, identity={**IDENTITY, "n": 101})
    assert second.path != first.path
    check_holds(second, [])
    check_holds(journal(tmp_path, identity=dict(reversed(IDENTITY.items()))), ENTRIES)
    second.path.write_bytes(first.path.read_bytes())  # put in its place: every row is counted again
    check_holds(journal(tmp_path, identity={**IDENTITY, "n": 101}), [])


def test_two_runs_exclude_each_other(tmp_path):
    with CountsJournal(tmp_path / "counts.parquet", IDENTITY) as first:
        first.append(ENTRIES[0])
        with (
            pytest.raises(CountsError, match=f"{first.path}: another run"),
            CountsJournal(tmp_path / "counts.parquet", IDENTITY),
        ):
            pass
        first.append(ENTRIES[1])
        journal(tmp_path, identity={"n": 101})  # of another identity: no conflict
    check_holds(journal(tmp_path), ENTRIES[:2])


def test_a_finished_run_removes_it(tmp_path):
    with CountsJournal(tmp_path / "counts.parquet", IDENTITY) as opened:
        opened.append(ENTRIES[0])
        opened.remove()
    assert not list(tmp_path.iterdir())
    check_holds(journal(tmp_path), [])


@pytest.mark.parametrize("room", [0, 1, 60])
def test_a_full_disk_keeps_the_finished_rows(tmp_path, room):
    path = journal(tmp_path, ENTRIES[:4]).path
    with (
        file_size_limit(path.stat().st_size + room),
        pytest.raises(CountsError, match=f"{path}: cannot be written.*kept"),
        CountsJournal(tmp_path / "counts.parquet", IDENTITY) as full,
    ):
        full.append(ENTRIES[4])
    check_holds(full, ENTRIES[:4])
    check_holds(journal(tmp_path, ENTRIES[4:]), ENTRIES)


WRITER = """
import json, pathlib, sys
from certsmooth.artefacts.counts import CountsJournal
identity, start = json.loads(sys.argv[2]), json.loads(sys.argv[3])
with CountsJournal(pathlib.Path(sys.argv[1]), identity) as journal:
    for position in range(10**9):
        journal.append({**start, "position": position})
        print(position, flush=True)
"""


@pytest.mark.slow
def test_rows_survive_a_kill(tmp_path):
    path = tmp_path / "counts.parquet"
    command = [sys.executable, "-c", WRITER, str(path), json.dumps(IDENTITY), json.dumps(row(0))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for _ in range(200):
            process.stdout.readline()
        with pytest.raises(CountsError, match="another run"), CountsJournal(path, IDENTITY):
            pass
        process.send_signal(signal.SIGKILL)
        acknowledged = 199 + len(process.stdout.readlines())
    assert process.returncode == -signal.SIGKILL
    found = journal(tmp_path)
    assert list(found.rows) == list(range(len(found.rows)))
    assert len(found.rows) > acknowledged
    assert all(entry == {**row(0), "position": position} for position, entry in found.rows.items())
