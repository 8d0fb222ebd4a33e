"""Certificates files: what is written is what is read, and nothing damaged is read."""

from __future__ import annotations

import gzip
import json
import math
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from certsmooth._internal.checks import MAX_SAMPLES
from certsmooth.artefacts.certificates import (
    CERTIFICATES,
    COLUMNS,
    PROVENANCE_KEYS,
    CertificatesPart,
    export_certificates,
    find_certificates,
    read_certificates,
    read_plain,
    read_published_certificates,
    write_certificates,
)
from certsmooth.artefacts.parts import Part, write_parts
from certsmooth.errors import ConfigError, CountsError
from factories import REFERENCE, certificates_frame, certificates_provenance

SPEC = {"sampled": {"base": {"seed": 0}, "split": "test", "n": 1000}, "alpha": 0.001}
OTHER = {**SPEC, "sampled": {**SPEC["sampled"], "split": "validation"}}


def part(frame=None, spec=SPEC, provenance=None):
    return CertificatesPart(
        certificates_frame() if frame is None else frame,
        spec,
        certificates_provenance() if provenance is None else provenance,
    )


PARTS = [part(), part(certificates_frame(time=1.0), OTHER, certificates_provenance(images=5))]


def check_parts(found, right):
    assert [(each.spec, each.provenance) for each in found] == [(each.spec, each.provenance) for each in right]
    for first, second in zip(found, right, strict=True):
        pd.testing.assert_frame_equal(first.frame, second.frame, check_exact=True)


@pytest.fixture
def written(tmp_path):
    path = tmp_path / "seed=0.parquet"
    write_certificates(path, PARTS)
    return path


def test_round_trip(written):
    found = read_certificates(written)
    check_parts(found, PARTS)
    check_parts([find_certificates(written, found, OTHER)], PARTS[1:])


def test_the_field_s_format(tmp_path):
    path = tmp_path / "sigma=0.25" / "test.tsv"
    export_certificates(path, certificates_frame())
    lines = path.read_text().split("\n")
    assert lines[0].startswith("idx\tlabel\tpredict\tradius\tcorrect\ttime\t")
    assert lines[1].startswith("0\t3\t3\t0.30000000000000004\t1\t0.5\t")


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(radius=st.floats(0, 1e6), sigma=st.floats(1e-300, 1e300), p=st.floats(0, 1))
def test_numbers_are_not_rounded(tmp_path, radius, sigma, p):
    frame = certificates_frame(radius=[radius, 0.0, 1.0, 0.0], sigma=sigma, p_a_lower=p)
    write_certificates(tmp_path / "a.parquet", [part(frame)])
    export_certificates(tmp_path / "a.tsv", frame)
    (stored,) = read_certificates(tmp_path / "a.parquet")
    for found in (stored.frame, read_published_certificates(tmp_path / "a.tsv")):
        assert (found["radius"][0], found["sigma"][0], found["p_a_lower"][0]) == (radius, sigma, p)


def test_order_of_columns_and_booleans_do_not_matter(tmp_path, written):
    other = tmp_path / "other.parquet"
    shuffled = certificates_frame().astype({"correct": bool})[list(reversed(certificates_frame().columns))]
    write_certificates(other, [part(shuffled), PARTS[1]])
    assert other.read_bytes() == written.read_bytes()


@pytest.fixture(scope="module")
def content(tmp_path_factory):
    path = tmp_path_factory.mktemp("certificates") / "a.parquet"
    write_certificates(path, PARTS)
    return path.read_bytes()


def check_damaged(path, content):
    path.write_bytes(content)
    try:
        found = read_certificates(path)
    except CountsError as error:
        assert str(error).startswith(f"{path}: ")
        assert "certify again" in str(error)
    else:
        check_parts(found, PARTS)


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_a_changed_byte_is_noticed_or_changes_nothing(content, tmp_path_factory, data):
    damaged = bytearray(content)
    damaged[data.draw(st.integers(0, len(content) - 1), label="byte")] ^= data.draw(st.integers(1, 255), label="bits")
    check_damaged(tmp_path_factory.getbasetemp() / "damaged.parquet", bytes(damaged))


@pytest.mark.slow
def test_a_changed_bit_of_the_metadata_is_noticed_or_changes_nothing(content, tmp_path):
    """All of it: that is where specs and provenance lie."""
    for position in range(content.index(b"certsmooth"), len(content)):
        damaged = bytearray(content)
        damaged[position] ^= 1
        check_damaged(tmp_path / "metadata.parquet", bytes(damaged))


@pytest.mark.parametrize("column", COLUMNS)
def test_another_value_is_noticed(written, column):
    """Whoever edits a column with another program, and keeps the metadata."""
    table = pq.read_table(written)
    values = table[column].to_pylist()
    values[0] = "none" if column == "guarantee" else values[0] + 1
    position = table.schema.get_field_index(column)
    table = table.set_column(position, table.schema.field(position), pa.array(values, table.schema.types[position]))
    pq.write_table(table, written)
    with pytest.raises(
        CountsError, match=rf"{written}: truncated or altered: its content does not match its checksum; certify again"
    ):
        read_certificates(written)


def test_missing_file(written):
    written.unlink()
    with pytest.raises(CountsError, match=rf"{written}: cannot be read: No such file or directory; certify again"):
        read_certificates(written)


def edited(path, change):
    """Change the record of a file, and leave its checksum as it is."""
    table = pq.read_table(path)
    record = change(json.loads(table.schema.metadata[b"certsmooth"]))
    pq.write_table(table.replace_schema_metadata({"certsmooth": json.dumps(record)}), path)


def with_identity(record, **changes):
    first, *others = record["parts"]
    return {**record, "parts": [{**first, "identity": {**first["identity"], **changes}}, *others]}


@pytest.mark.parametrize(
    "change",
    [
        lambda record: with_identity(record, spec=OTHER),
        lambda record: with_identity(record, provenance=certificates_provenance(images=3)),
        lambda record: with_identity(record, more=1),
        lambda record: {**record, "parts": record["parts"][::-1]},
        lambda record: {**record, "parts": [{**record["parts"][0], "rows": 8}]},
        lambda record: {**record, "sha256": "0" * 64},
        lambda record: {key: value for key, value in record.items() if key != "parts"},
        lambda record: [],
    ],
)
def test_a_changed_record_is_noticed(written, change):
    edited(written, change)
    with pytest.raises(CountsError, match=rf"{written}: .*; certify again"):
        read_certificates(written)


@pytest.mark.parametrize(
    ("identity", "message"),
    [
        ({}, "spec is None; must be a mapping"),
        ({"spec": [], "provenance": {}}, r"spec is \[\]; must be a mapping"),
        ({"spec": SPEC}, "provenance is None; must be a mapping with description, fingerprint"),
        ({"spec": SPEC, "provenance": {}}, "provenance lacks description, fingerprint"),
    ],
)
def test_a_record_that_says_too_little_is_refused(tmp_path, identity, message):
    """With a checksum that matches: made by another program."""
    write_as_they_are(tmp_path / "a.parquet", certificates_frame(), identity)
    with pytest.raises(CountsError, match=rf"a\.parquet: {message}"):
        read_certificates(tmp_path / "a.parquet")


def write_as_they_are(path, frame, identity):
    kinds = {"guarantee": object} | dict.fromkeys(("idx", "label", "predict", "correct", "n"), np.int64)
    columns = {name: frame[name].to_numpy(dtype=kinds.get(name, np.float64)) for name in COLUMNS}
    write_parts(path, CERTIFICATES, [Part(identity, columns)])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({**SPEC, "alpha": 0.01}, "spec.alpha is 0.001; must be 0.01; certify again"),
        ({**SPEC, "sampled": {**SPEC["sampled"], "n": 100}}, "spec.sampled.n is 1000; must be 100; certify again"),
        (
            {**SPEC, "sampled": {**SPEC["sampled"], "base": {"seed": 1}}},
            "spec.sampled.base.seed is 0; must be 1; certify again",
        ),
        ({**SPEC, "memory": "shuffled"}, "spec.memory is nothing; must be 'shuffled'; certify again"),
        ({"sampled": SPEC["sampled"]}, "spec.alpha is 0.001; must be nothing; certify again"),
    ],
)
def test_certificates_of_something_else_are_refused(written, wrong, message):
    with pytest.raises(CountsError) as raised:
        find_certificates(written, read_certificates(written), wrong)
    assert str(raised.value).startswith(f"{written}: {message}")


def test_validation_certificates_are_not_those_of_the_test(tmp_path):
    path = tmp_path / "a.parquet"
    write_certificates(path, PARTS[1:])
    with pytest.raises(CountsError, match=r"a\.parquet: spec\.sampled\.split is 'validation'; must be 'test'"):
        find_certificates(path, read_certificates(path), SPEC)


BAD = [
    ({"idx": [0, 20, 20, 60]}, "line 4, column idx: 20; must be unique"),
    ({"idx": [-1, 20, 40, 60]}, "line 2, column idx: -1; must be an integer >= 0"),
    ({"predict": [-2, -1, 2, 5]}, "line 2, column predict: -2; must be a class"),
    ({"radius": [np.inf, 0.0, 1.0, 0.0]}, "line 2, column radius: inf; must be a finite number >= 0"),
    ({"radius": [0.1, 0.0, np.nan, 0.0]}, "line 4, column radius: nan; must be a finite number >= 0"),
    ({"radius": [0.1, 0.0, -0.5, 0.0]}, "line 4, column radius: -0.5; must be a finite number >= 0"),
    ({"radius": [0.1, 0.5, 1.0, 0.0]}, "line 3, column radius: 0.5; must be 0, as the prediction abstains"),
    ({"correct": [1, 0, 1, 0]}, "line 4, column correct: 1; must be 1 exactly if predict is label"),
    ({"correct": [0, 0, 0, 0]}, "line 2, column correct: 0; must be 1 exactly if predict is label"),
    ({"label": [3, -1, 1, -1], "correct": [1, 1, 0, 0]}, "line 3, column correct: 1; must be 1 exactly"),
    ({"correct": [2, 0, 0, 0]}, "line 2, column correct: 2; must be 0 or 1"),
    ({"sigma": [0.0, 1.0, 1.0, 1.0]}, "line 2, column sigma: 0.0; must be a finite number > 0"),
    ({"p_a_lower": [0.1, 1.5, 0.1, 0.1]}, "line 3, column p_a_lower: 1.5; must be a probability"),
    ({"p_b_upper": [0.1, -0.5, 0.1, 0.1]}, "line 3, column p_b_upper: -0.5; must be a probability"),
    ({"alpha": 0.0}, "line 2, column alpha: 0.0; must be a probability"),
    ({"n": 0}, "line 2, column n: 0; must be an integer >= 1"),
    (
        {"guarantee": "sure"},
        "line 2, column guarantee: sure; must be one of global, global (real arithmetic), memory, none",
    ),
    ({"radius_before_memory": np.nan}, "line 2, column radius_before_memory: nan; must be a number where"),
    ({"time": [0.0, 0.0, 0.0, -1.0]}, "line 5, column time: -1.0; must be seconds"),
    ({"label": 0.5}, "column label has type float64; must be a class"),
    ({"guarantee": 1}, "column guarantee has type int64; must be one of"),
]


@pytest.mark.parametrize(("changes", "message"), BAD)
def test_bad_certificates_are_neither_written(tmp_path, changes, message):
    with pytest.raises(CountsError) as raised:
        write_certificates(tmp_path / "a.parquet", [part(certificates_frame(**changes))])
    assert "a.parquet: " in str(raised.value)
    assert message in str(raised.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("changes", "message"), [case for case in BAD if "has type" not in case[1]])
def test_nor_read(tmp_path, changes, message):
    """The same tables with a checksum that matches: made by another program."""
    path = tmp_path / "a.parquet"
    write_as_they_are(path, certificates_frame(**changes), {"spec": SPEC, "provenance": certificates_provenance()})
    with pytest.raises(CountsError) as raised:
        read_certificates(path)
    assert str(raised.value).startswith(f"{path}: ")
    assert message in str(raised.value)


@pytest.mark.parametrize("column", COLUMNS)
def test_missing_and_unknown_columns(tmp_path, column):
    for frame in (certificates_frame().drop(columns=column), certificates_frame().rename(columns={column: "x"})):
        with pytest.raises(CountsError, match="must be 'idx label predict radius correct time sigma"):
            write_certificates(tmp_path / "a.parquet", [part(frame)])


@pytest.mark.parametrize("key", PROVENANCE_KEYS)
def test_missing_provenance(tmp_path, key):
    provenance = certificates_provenance()
    del provenance[key]
    with pytest.raises(CountsError, match=f"provenance lacks {key}; must have description"):
        write_certificates(tmp_path / "a.parquet", [part(provenance=provenance)])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"memory": {"conflicts": 0}}, "provenance.memory lacks capped, repredicted, order"),
        ({"memory": 3}, "provenance.memory is 3; must be a mapping with conflicts, capped"),
        ({"fingerprint": "md5:0"}, "provenance.fingerprint is 'md5:0'"),
        ({"seconds": float("nan")}, "provenance cannot be JSON"),
        ({"device": object()}, "provenance cannot be JSON"),
    ],
)
def test_bad_provenance(tmp_path, changes, message):
    with pytest.raises(CountsError, match=message):
        write_certificates(tmp_path / "a.parquet", [part(provenance=certificates_provenance(**changes))])


def test_folders(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(CountsError, match="cannot be written"):
        write_certificates(tmp_path / "no" / "a.parquet", [part()])
    with pytest.raises(CountsError, match=rf"{tmp_path}/file/a\.tsv: cannot be written"):
        export_certificates(tmp_path / "file" / "a.tsv", certificates_frame())


FIELD = "idx\tlabel\tpredict\tradius\tcorrect\ttime\n"


def test_published_format(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_text(FIELD + "0\t3\t-1\t0.0\t0\t0:00:13.736080\n20\t7\t7\t0.0734\t1\t15.4\n40\t1\t1\t2\t1\t1:02:03\n")
    frame = read_published_certificates(path)
    assert frame["time"].tolist() == pytest.approx([13.73608, 15.4, 3723.0])
    assert frame["radius"].tolist() == [0.0, 0.0734, 2.0]
    assert frame["predict"].tolist() == [-1, 7, 1]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "columns '' | must be"),
        (FIELD, "no certificates; must have one line per image"),
        (FIELD.replace("time", "seconds"), "columns 'idx label predict radius correct seconds'; must be"),
        (FIELD + "0\t3\t3\t0.1\t1\n", "line 2: 5 fields; must be 6, separated by tabs"),
        (FIELD + "\n0\t3\t3\t0.1\t1\t1\n", "line 2: 1 fields"),
        (FIELD + "0\t3\t3\t0.1\t1\t1\n\n1\t3\t3\t0.1\t1\t1\n", "line 3: 1 fields"),
        (FIELD + "0\t3\t3\t0.1\t1\tlong\n", "line 2, column time: 'long'; must be seconds, or h:mm:ss"),
        (
            FIELD + "0\t3\t3\t0.1\t1\t1\n1\t3\t3.0\t0.1\t1\t1\n",
            "line 3, column predict: '3.0'; must be a class",
        ),
        (FIELD + "0\t3\t3\tnan\t1\t1\n", "line 2, column radius: nan; must be a finite number >= 0"),
        (FIELD + "0\t3\t4\t0.1\t1\t1\n", "line 2, column correct: 1; must be 1 exactly if predict is label"),
    ],
)
def test_damaged_published_files(tmp_path, content, message):
    path = tmp_path / "a.tsv"
    path.write_text(content)
    with pytest.raises(CountsError) as raised:
        read_published_certificates(path)
    assert all(part in str(raised.value) for part in ("a.tsv: ", *message.split(" | ")))


def test_published_file_that_is_not_text(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_bytes(FIELD.encode() + b"0\t3\t3\t0.1\t1\t\xff\n")
    with pytest.raises(CountsError, match="not UTF-8 text"):
        read_published_certificates(path)


ROWS = ["0\t3\t-1\t0.0\t0\t{}0:00:13.736080", "20\t7\t7\t0.0734\t1\t{}15.4", "40\t1\t2\t0.9\t0\t{}1:02:03"]


@pytest.mark.parametrize("blank", ["", "{end}", "{end}{end}{end}"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("sigma", ["", "0.25\t"])
def test_variants_that_are_published(tmp_path, sigma, mark, end, blank):
    """Windows line ends, a byte order mark, blank lines at the end, and DDRS' sigma before the time."""
    header = FIELD.strip().replace("time", "sigma\ttime") if sigma else FIELD.strip()
    text = mark + end.join([header, *(row.format(sigma) for row in ROWS)]) + blank.format(end=end)
    path = tmp_path / "a.tsv"
    path.write_bytes(text.encode())
    frame = read_published_certificates(path, sigma=0.25)
    assert frame["time"].tolist() == pytest.approx([13.73608, 15.4, 3723.0])
    assert frame["radius"].tolist() == [0.0, 0.0734, 0.9]
    assert frame["predict"].tolist() == [-1, 7, 2]
    assert list(frame) == header.split("\t")


def test_our_columns_in_the_field_s_format(tmp_path):
    export_certificates(tmp_path / "a.tsv", certificates_frame())
    pd.testing.assert_frame_equal(
        read_published_certificates(tmp_path / "a.tsv"), certificates_frame(), check_exact=True
    )


def test_a_file_that_gzip_compressed(tmp_path):
    path = tmp_path / "a.tsv.gz"
    content = (FIELD + "".join(f"{idx}\t3\t3\t0.{idx}\t1\t15.4\n" for idx in range(100))).encode()
    compressed = gzip.compress(content)
    path.write_bytes(compressed)
    assert read_plain(path) == content
    assert read_published_certificates(path)["idx"].tolist() == list(range(100))
    (plain := tmp_path / "a").write_bytes(content)
    assert read_plain(plain) == content
    path.write_bytes(gzip.compress(content.replace(b"0.41", b"-1")))
    with pytest.raises(CountsError, match=r"a\.tsv\.gz: line 43, column radius: -1.0; must be a finite number >= 0"):
        read_published_certificates(path)
    for damaged in (compressed[:-9], compressed[:20], compressed[:50] + b"x" + compressed[51:], b"\x1f\x8b\x00"):
        path.write_bytes(damaged)
        with pytest.raises(CountsError, match=r"a\.tsv\.gz: damaged \(.*\); must be tab-separated text, or"):
            read_plain(path)


def test_a_compressed_file_may_announce_anything(tmp_path):
    path = tmp_path / "a.tsv.gz"
    path.write_bytes(gzip.compress(bytes(2**26)))
    assert len(read_plain(path)) == 2**26
    path.write_bytes(gzip.compress(bytes(2**26 + 1)))
    with pytest.raises(CountsError, match=r"more than 67,108,864 bytes without compression; must be at most so many"):
        read_plain(path)


def test_unknown_columns_are_refused_with_those_that_are_read(tmp_path):
    path = tmp_path / "a.tsv"
    path.write_text(FIELD.replace("correct\t", "") + "0\t3\t3\t0.1\t15.4\n")
    with pytest.raises(CountsError) as raised:
        read_published_certificates(path)
    ddrs = "idx label predict radius correct sigma time"
    known = f"'idx label predict radius correct time' or '{ddrs}' or '{' '.join(COLUMNS)}'"
    assert str(raised.value) == f"{path}: columns 'idx label predict radius time'; must be {known}"


@pytest.mark.parametrize(
    ("radius", "sigma", "right"),
    [
        ("3.56", 0.25, "1.514"),  # Cohen et al., sigma 1.00, declared 0.25
        ("1.52", 0.25, "1.514"),
        ("0.953", 0.12, "0.7268"),
    ],
)
def test_a_radius_that_the_declared_sigma_cannot_give(tmp_path, radius, sigma, right):
    """At most sigma Phi^-1(alpha^(1/n)), here with n = 10^9 and alpha = 1/2."""
    path = tmp_path / "a.tsv"
    path.write_text(f"{FIELD}0\t3\t3\t0.1\t1\t1\n20\t7\t7\t{radius}\t1\t1\n")
    with pytest.raises(CountsError) as raised:
        read_published_certificates(path, sigma=sigma)
    assert str(raised.value) == (
        f"{path}: line 3, column radius: {float(radius)}; must be at most {right}: with the declared sigma {sigma}, "
        "1,000,000,000 samples give no more"
    )
    assert len(read_published_certificates(path)) == 2


@pytest.mark.parametrize("alpha", [0.5, 0.01, 0.001])
@pytest.mark.parametrize("n", [1, 1000, 100_000, MAX_SAMPLES])
@pytest.mark.parametrize("sigma", [0.12, 0.25, 1.0])
@pytest.mark.parametrize("printed", [".3", ".4f", ""])
def test_a_radius_that_the_declared_sigma_can_give(tmp_path, printed, sigma, n, alpha):
    """The largest radius at any n and alpha, however it is rounded."""
    radius = sigma * norm.isf(-math.expm1(math.log(alpha) / n))
    path = tmp_path / "a.tsv"
    path.write_text(f"{FIELD}0\t3\t3\t{max(radius, 0.0):{printed}}\t1\t1\n")
    assert len(read_published_certificates(path, sigma=sigma)) == 1


@pytest.mark.parametrize(
    ("column", "declared", "right"),
    [
        ("0.25", 0.25, True),
        ("0.123", 0.12345, True),  # DDRS prints three digits
        ("0.5", 0.25, False),
        ("0.2503", 0.25, False),
        ("0.123", 0.1236, False),
    ],
)
def test_the_sigma_column_of_ddrs(tmp_path, column, declared, right):
    path = tmp_path / "a.tsv"
    header = FIELD.replace("time", "sigma\ttime")
    path.write_text(f"{header}0\t3\t3\t0.1\t1\t{declared:.3}\t1\n20\t3\t3\t0.1\t1\t{column}\t1\n")
    if right:
        assert read_published_certificates(path, sigma=declared)["sigma"].tolist() == [float(column)] * 2
    else:
        with pytest.raises(
            CountsError, match=rf"a\.tsv: line 3, column sigma: {column}; must be {declared}, the declared"
        ):
            read_published_certificates(path, sigma=declared)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sigma": [0.5, 0.5, 0.5001, 0.5]}, "line 4, column sigma: 0.5001; must be 0.5, the declared sigma"),
        ({"guarantee": ["global", "none", "global", "global"]}, "line 3, column guarantee: none; must be global"),
        ({"guarantee": "memory", "radius_before_memory": 0.5}, "line 2, column guarantee: memory; must be global"),
        ({"radius": [0.1, 0.0, 4.0, 0.0]}, "line 4, column radius: 4.0; must be at most 3.029"),
    ],
)
def test_our_columns_with_a_declared_sigma(tmp_path, changes, message):
    path = tmp_path / "a.tsv"
    good = {"sigma": 0.5, "guarantee": "global"}
    export_certificates(path, certificates_frame(**good))
    assert len(read_published_certificates(path, sigma=0.5)) == 4
    export_certificates(path, certificates_frame(**good | changes))
    with pytest.raises(CountsError, match=re.escape(f"a.tsv: {message}")):
        read_published_certificates(path, sigma=0.5)


@pytest.mark.parametrize("sigma", [0, -1.0, math.nan, math.inf, "0.25"])
def test_a_declared_sigma_that_is_none(tmp_path, sigma):
    path = tmp_path / "a.tsv"
    path.write_text(FIELD + "0\t3\t3\t0.1\t1\t1\n")
    with pytest.raises(ConfigError, match=r"sigma: .*; must be a finite number > 0"):
        read_published_certificates(path, sigma=sigma)


PUBLISHED = Path(__file__).resolve().parents[2] / ".." / "shared" / "reference" / "certificates"
FILES = {
    path: float(re.search(r"(?:certify|sigma)([0-9.]+)\.tsv", path.name)[1])
    for path in sorted((REFERENCE / "certificates").glob("*.tsv*"))
}


@pytest.mark.skipif(not FILES, reason="the published certificates are not on this machine")
def test_every_published_file_fits_its_sigma_and_none_a_quarter_of_it(tmp_path):
    assert len(FILES) == 35
    for path, sigma in FILES.items():
        plain = tmp_path / "a.tsv"
        plain.write_bytes(gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes())
        assert len(read_published_certificates(plain, sigma=sigma)) in (500, 10_000)
        with pytest.raises(CountsError, match=r"column radius: .* with the declared sigma"):
            read_published_certificates(plain, sigma=sigma / 4)
