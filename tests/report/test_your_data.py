"""docs/your_data.md, followed to the letter in a copy of this repository."""

import json
import re

import numpy as np
import pytest

from factories import ROOT, class_files, own_sample, write_folder, write_own_npz, write_own_parquet
from followed_page import FILES, Clone, blocks, commands, with_entries

PAGE = (ROOT / "docs" / "your_data.md").read_text()
START, FIRST_TABLE, OTHER_FORMS = re.split(r"^## (?:3\. A first table|Other forms)$", PAGE, flags=re.MULTILINE)
DRAW, *OF_THE_ENTRY = commands(START)

pytestmark = pytest.mark.workflow


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """The clone with the images of the page."""
    clone = Clone(tmp_path_factory.mktemp("your_data") / "clone")
    (code,) = blocks(START, "python")
    name, code = re.fullmatch(r"# (\S+)\n(.*)", code, re.DOTALL).groups()
    (clone.folder / name).write_text(code)
    clone.call(DRAW)
    return clone


def test_the_entry_is_checked_read_and_planned(clone):
    clone.write(with_entries(FILES, START))
    assert OF_THE_ENTRY == ["certsmooth check", "certsmooth data mine", "snakemake --dry-run results/table1.md"]
    check, _, plan = (clone.call(command) for command in OF_THE_ENTRY)
    assert check.endswith(": ok\n")
    record = json.loads((clone.folder / "results" / "data" / "mine.json").read_text())
    assert (record["image_shape"], record["classes"]) == ([3, 16, 16], ["cross", "disc", "rings"])
    assert {name: part["images"] for name, part in record["parts"].items()} == {
        "training": 171, "validation": 9, "test": 60,
    }  # fmt: skip
    runs = re.findall(r"output: results/checkpoints/(\S+)/seed=0/default/model.safetensors", plan)
    assert sorted(runs) == sorted(
        f"mine/{training}/sigma={sigma}" for training in ("gaussian", "gaussian-ds") for sigma in (0.12, 0.25, 0.5)
    )


def test_the_first_table(clone):
    clone.write(with_entries(FILES, START + FIRST_TABLE))
    (command,) = commands(FIRST_TABLE)
    clone.call(command)
    text = (clone.folder / "results" / "mine.md").read_text()
    assert "on 60 test images" in text
    assert "n = 1,000" in text or "n = 1000" in text
    (row,) = set(re.findall(r"^\| Cohen +\| FS +\| FS +\| global +\| +([0-9.]+) \[", text, re.MULTILINE))
    assert float(row) > 50


def test_every_other_form_is_checked_and_read(clone):
    sample, data = own_sample(train=200), clone.folder / "data"
    files = class_files(sample)
    rows = [f"{name.split('/')[0]},{name},{name.split('/')[1]}" for name in files]
    write_folder(data / "listed", files | {"labels.csv": "\n".join(["split,file,label", *rows]).encode()})
    write_own_npz(data / "arrays.npz", sample)
    write_own_parquet(data / "hub", sample)
    clone.write(with_entries(FILES, START + OTHER_FORMS))
    assert clone.call("certsmooth check").endswith(": ok\n")
    shapes = {"listed": [3, 32, 32], "arrays": [3, 12, 10], "hub": [3, 32, 32]}
    for name, shape in shapes.items():
        clone.call(f"certsmooth data {name}")
        record = json.loads((clone.folder / "results" / "data" / f"{name}.json").read_text())
        assert (record["image_shape"], record["num_classes"]) == (shape, 10)


def test_the_templates_are_those_that_the_page_describes():
    templates = FILES["config/datasets/templates.yaml"]["datasets"]
    rows = re.findall(r"^\| `(\S+)` \| [^|]+ \| `(\S+)` \| ([^|]+) \|$", PAGE, re.MULTILINE)
    assert [name for name, *_ in rows] == list(templates)
    for name, architecture, sigmas in rows:
        assert templates[name]["architecture"] == architecture
        assert templates[name]["sigmas"] == [float(sigma) for sigma in sigmas.split(", ")]


@pytest.mark.parametrize(("channels", "classes"), [(3, 100), (1, 2)])
def test_any_number_of_classes_and_channels_passes_the_check(channels, classes, clone):
    rng = np.random.default_rng(0)
    arrays = {
        f"{split}_images": rng.integers(0, 256, (3 * classes, 16, 16, channels), np.uint8)
        for split in ("train", "test")
    }
    arrays |= {f"{split}_labels": np.arange(3 * classes) % classes for split in ("train", "test")}
    np.savez(clone.folder / "own.npz", **arrays)
    params = FILES["params.yaml"] | {"dataset": "own"}
    params["datasets"] = {"own": {"like": "small-images", "member": "npz", "source": "own.npz", "options": {}}}
    clone.write(FILES | {"params.yaml": params})
    assert clone.call("certsmooth check").endswith(": ok\n")
