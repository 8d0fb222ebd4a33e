"""Certificates files: what is written is what is read, and nothing damaged is read."""

from __future__ import annotations

import gzip
import json
import math
import random
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from certsmooth._internal.checks import MAX_SAMPLES
from certsmooth.artefacts.certificates import (
    COLUMNS,
    PROVENANCE_KEYS,
    checksum,
    read_certificates,
    read_published_certificates,
    write_certificates,
)
from certsmooth.errors import ConfigError, CountsError


def make_provenance(**changes):
    values = dict.fromkeys(PROVENANCE_KEYS) | {
        "fingerprint": "sha256:" + "0" * 64,
        "images": 4,
        "versions": {},
    }
    return values | changes


def make_frame(**changes):
    columns = {
        "idx": [0, 20, 40, 60],
        "label": [3, 7, 1, -1],
        "predict": [3, -1, 2, 5],
        "radius": [0.1 + 0.2, 0.0, 1.0, 0.0],
        "correct": [1, 0, 0, 0],
        "time": [0.5, 1e-7, 2.0, 3.0],
        "sigma": [0.25, 0.1, 0.5, 0.5],
        "p_a_lower": [0.9, 0.4, 0.99, 0.5],
        "p_b_upper": [0.1, 0.6, 0.01, 0.5],
        "n": [1000] * 4,
        "alpha": [0.001] * 4,
        "guarantee": ["memory", "memory", "global", "none"],
        "radius_before_memory": [0.5, 0.0, np.nan, np.nan],
        "radius_linf": [0.1, 0.0, 0.5, 0.0],
    }
    return pd.DataFrame(columns | changes)


@pytest.fixture
def written(tmp_path):
    path = tmp_path / "train0.25.tsv"
    write_certificates(path, make_frame(), make_provenance())
    return path


def test_round_trip_and_format(written):
    frame, provenance = read_certificates(written)
    pd.testing.assert_frame_equal(frame, make_frame(), check_exact=True)
    assert provenance == make_provenance()
    lines = written.read_text().split("\n")
    assert lines[0].startswith("idx\tlabel\tpredict\tradius\tcorrect\ttime\t")
    assert lines[1].startswith("0\t3\t3\t0.30000000000000004\t1\t0.5\t")
    assert (written.parent / "train0.25.json").exists()


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(radius=st.floats(0, 1e6), sigma=st.floats(1e-300, 1e300), p=st.floats(0, 1))
def test_numbers_are_not_rounded(tmp_path, radius, sigma, p):
    path = tmp_path / "a.tsv"
    write_certificates(path, make_frame(radius=[radius, 0.0, 1.0, 0.0], sigma=sigma, p_a_lower=p), make_provenance())
    frame, _ = read_certificates(path)
    assert (frame["radius"][0], frame["sigma"][0], frame["p_a_lower"][0]) == (radius, sigma, p)


def test_order_of_columns_and_booleans_do_not_matter(tmp_path, written):
    other = tmp_path / "other.tsv"
    frame = make_frame()
    write_certificates(other, frame.astype({"correct": bool})[list(reversed(frame.columns))], make_provenance())
    assert other.read_bytes() == written.read_bytes()


def test_every_flipped_bit_of_the_table_is_noticed(written):
    content = written.read_bytes()
    flip = random.Random(0)
    for position in flip.sample(range(len(content)), 60):
        damaged = bytearray(content)
        damaged[position] ^= 1 << flip.randrange(8)
        written.write_bytes(damaged)
        with pytest.raises(CountsError, match=r"train0\.25\.tsv: its sha256, with the provenance, is"):
            read_certificates(written)


@pytest.mark.parametrize("suffix", [".tsv", ".json"])
def test_missing_file(written, suffix):
    written.with_suffix(suffix).unlink()
    with pytest.raises(CountsError, match=rf"train0\.25\{suffix}: cannot be read: No such file"):
        read_certificates(written)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("[]", "must hold exactly the keys sha256 and provenance"),
        ('{"sha256": "0"}', "must hold exactly the keys sha256 and provenance"),
        ('{"sha256": "0", "provenance": {}}', "one of the two was changed"),
    ],
)
def test_damaged_sidecar(written, text, message):
    written.with_suffix(".json").write_text(text)
    with pytest.raises(CountsError, match=message):
        read_certificates(written)


def test_sidecar_of_another_table(written, tmp_path):
    other = tmp_path / "other.tsv"
    write_certificates(other, make_frame(time=1.0), make_provenance())
    other.replace(written)
    with pytest.raises(CountsError, match="certify again"):
        read_certificates(written)


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
        write_certificates(tmp_path / "a.tsv", make_frame(**changes), make_provenance())
    assert "a.tsv: " in str(raised.value)
    assert message in str(raised.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("changes", "message"), [case for case in BAD if "has type" not in case[1]])
def test_nor_read(tmp_path, written, changes, message):
    """The same tables with a sidecar that matches: made by hand, or by another program."""
    content = make_frame(**changes).to_csv(sep="\t", index=False, na_rep="nan").encode()
    written.write_bytes(content)
    record = {"sha256": checksum(content, make_provenance()), "provenance": make_provenance()}
    written.with_suffix(".json").write_text(json.dumps(record))
    with pytest.raises(CountsError) as raised:
        read_certificates(written)
    assert message in str(raised.value)


@pytest.mark.parametrize("column", COLUMNS)
def test_missing_and_unknown_columns(tmp_path, column):
    for frame in (make_frame().drop(columns=column), make_frame().rename(columns={column: "x"})):
        with pytest.raises(CountsError, match="must be 'idx label predict radius correct time sigma"):
            write_certificates(tmp_path / "a.tsv", frame, make_provenance())


@pytest.mark.parametrize("key", PROVENANCE_KEYS)
def test_missing_provenance(tmp_path, key):
    provenance = make_provenance()
    del provenance[key]
    with pytest.raises(CountsError, match=f"provenance lacks {key}; must have dataset"):
        write_certificates(tmp_path / "a.tsv", make_frame(), provenance)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"memory": {"conflicts": 0}}, "provenance.memory lacks capped, repredicted, order"),
        ({"memory": 3}, "provenance.memory is 3; must be null or a mapping"),
        ({"fingerprint": "md5:0"}, "provenance.fingerprint is 'md5:0'"),
        ({"seconds": float("nan")}, "provenance cannot be JSON"),
        ({"device": object()}, "provenance cannot be JSON"),
    ],
)
def test_bad_provenance(tmp_path, changes, message):
    with pytest.raises(CountsError, match=message):
        write_certificates(tmp_path / "a.tsv", make_frame(), make_provenance(**changes))


def test_names_and_folders(tmp_path):
    with pytest.raises(ConfigError, match=r"must end in \.tsv"):
        write_certificates(tmp_path / "sigma0.25", make_frame(), make_provenance())
    with pytest.raises(ConfigError, match=r"must end in \.tsv"):
        read_certificates(tmp_path / "sigma0.25")
    with pytest.raises(CountsError, match="cannot be written"):
        write_certificates(tmp_path / "no" / "a.tsv", make_frame(), make_provenance())


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


def test_our_columns_without_their_sidecar(written):
    written.with_suffix(".json").unlink()
    pd.testing.assert_frame_equal(read_published_certificates(written), make_frame(), check_exact=True)


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
    write_certificates(path, make_frame(**good), make_provenance())
    assert len(read_published_certificates(path, sigma=0.5)) == 4
    write_certificates(path, make_frame(**good | changes), make_provenance())
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
    for path in sorted(PUBLISHED.glob("*.tsv*"))
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
