"""The page of all results says what the tables say; nothing in it runs, or is loaded, that should not."""

import base64
import csv
import gzip
import io
import json
import re
import shutil
import subprocess
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from certsmooth.analysis.metrics import accuracy_interval
from certsmooth.analysis.overview import curve, hardest, intervals, radii_of
from certsmooth.analysis.runs import collect
from certsmooth.errors import CertsmoothError, MissingLibraryError
from certsmooth.experiment.config import read_params
from certsmooth.experiment.resolve import Experiment
from certsmooth.experiment.runs import table_runs
from certsmooth.experiment.steps.certified import Certified
from certsmooth.experiment.steps.gallery import chosen, noisy_copies
from certsmooth.experiment.steps.page import make_page
from certsmooth.experiment.steps.table import make_table
from certsmooth.report.page import markdown, pictures
from certsmooth.science.sampling.sampler import Sampler, SamplingPlan
from certsmooth.science.theory.pixel_grid import grid_of
from factories import ROOT, MadeResults, certified_run

pytest.importorskip("vl_convert", reason="the extra `workflow` is not installed")

RESULTS = Path("results")
HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>&\"'"


class Elements(HTMLParser):
    """The elements of a page: tag and attributes, and the text of scripts by id."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.found, self.scripts, self.text, self._script = [], {}, [], None
        self.feed(text)

    def data(self, name):
        """What the script of an id holds: JSON, compressed."""
        return json.loads(gzip.decompress(base64.b64decode(self.scripts[name])))

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))
        self._script = dict(attributes).get("id", len(self.scripts)) if tag == "script" else None

    def handle_endtag(self, tag):
        self._script = None

    def handle_data(self, text):
        if self._script is None:
            self.text.append(text)
        else:
            self.scripts[self._script] = self.scripts.get(self._script, "") + text


def made(folder, *tables, label="Cohen"):
    """Make tables of the small experiment of the golden files, and return its results."""
    params = read_params(ROOT / "tests" / "golden" / "params.yaml")
    methods = {**params.methods, "cohen": replace(params.methods["cohen"], label=label)}
    shown = {"memory", "rates", "promises", "linf"}
    params = replace(
        params,
        methods=methods,
        tables={name: table for name, table in params.tables.items() if name in shown},
        training_seeds=params.training_seeds[:1],
        high_dimension=None,
    )
    results = MadeResults(params, RESULTS)
    RESULTS.mkdir(exist_ok=True)
    for name in tables:
        results.table(name)
        make_table(results.experiment, name, results=RESULTS)
    return results


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The folder of a page of two tables, and the page."""
    folder = tmp_path_factory.mktemp("page")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        results = made(folder, "memory", "rates", label=HOSTILE)
        path = make_page(results.experiment, results=RESULTS)
        yield folder, path.read_text(), results


@pytest.fixture
def page(small, monkeypatch):
    """The page, read in its folder."""
    monkeypatch.chdir(small[0])
    return Elements(small[1])


slow = pytest.mark.slow


@slow
def test_names_are_text_wherever_they_come_from(page):
    assert not [attributes for tag, attributes in page.found if "onerror" in attributes]
    assert not [tag for tag, attributes in page.found if tag == "img"]
    assert HOSTILE in "".join(page.text)  # the label, escaped and read again
    data = page.data("data")
    methods = {line["method"] for panel in data["tables"]["memory"]["curves"]["panels"] for line in panel["lines"]}
    assert HOSTILE in methods


@slow
def test_nothing_is_loaded_from_elsewhere(small, page):
    references = [
        attributes[name] for tag, attributes in page.found for name in ("src", "href", "action") if name in attributes
    ]
    assert references
    assert all(each.startswith("#") for each in references)
    style = small[1].partition("<style>")[2].partition("</style>")[0]
    assert "@import" not in style
    urls = re.findall(r"url\(([^)]*)\)", style)
    assert urls
    assert all(url.startswith("data:image/png;base64,") for url in urls)
    assert not [tag for tag, _ in page.found if tag in ("link", "iframe", "object", "embed", "base", "form")]
    (policy,) = (a["content"] for tag, a in page.found if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none';")
    assert "http" not in policy


@slow
def test_a_table_that_is_not_there_is_named(page):
    text = "".join(page.text)
    assert "2 tables, 3 not made yet" in text
    for name in ("promises", "linf"):
        assert f"snakemake --cores all results/{name}.md" in text


@slow
def test_the_page_is_small(small):
    assert len(small[1].encode()) < 2_000_000


@slow
def test_equal_results_give_equal_pages(small, page):
    assert make_page(small[2].experiment, results=RESULTS).read_text() == small[1]


@slow
def test_numbers_are_those_of_the_table(small, page):
    with (RESULTS / "tables" / "memory.csv").open() as file:
        rows = list(csv.DictReader(file))
    section = small[1].partition('id="memory"')[2].partition("</section>")[0]
    tables = section.split("<table")
    for number, selected_on in ((1, "validation"), (2, "test"), (3, "published")):
        expected = [row["value"] for row in rows if row["selected_on"] == selected_on]
        shown = re.findall(r'class="number" data-value="([^"]+)"', tables[number])
        assert sorted(map(float, shown)) == pytest.approx(sorted(map(float, expected)), rel=1e-6)
        assert shown


@slow
def test_curves_go_through_the_numbers_of_the_table(page):
    with (RESULTS / "tables" / "memory.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["selected_on"] == "none" and row["radius"]]
    curves = page.data("data")["tables"]["memory"]["curves"]
    (panel,) = curves["panels"]
    compared = 0
    for row in rows:
        setting = row["method"], float(row["chosen_sigma"]), row["chosen_grid"]
        (line,) = (each for each in panel["lines"] if (each["method"], each["sigma"], each["grid"]) == setting)
        if float(row["radius"]) in panel["radii"]:
            held = line["held"][panel["radii"].index(float(row["radius"]))]
            lower, upper = curves["intervals"][f"{line['of']}/{line['images']}"][str(held)]
            found = 100 * held / line["of"], lower, upper
            assert found == pytest.approx([float(row[key]) for key in ("value", "lower", "upper")], abs=0.006)
            assert line["guarantee"] == row["guarantee"]
            compared += 1
    assert compared > 20


@slow
def test_differences_are_of_the_same_images_against_the_baseline_at_its_setting(small, page):
    experiment = small[2].experiment
    (panel,) = page.data("data")["tables"]["memory"]["curves"]["panels"]
    runs = [(run, Certified(experiment, RESULTS).run(run, "test")) for run in table_runs(experiment.params, "memory")]
    holds = {}
    for run, certified in runs:
        frame = certified.frame.set_index("idx").sort_index()
        key = certified.label, run.sigma, " ".join(f"{name}={value}" for name, value in run.grid)
        holds[key] = [(frame["correct"] == 1) & (frame["radius"] >= radius) for radius in panel["radii"]]
    assert panel["baseline"] == HOSTILE
    (picked,) = (line for line in panel["lines"] if line["chosen"] and line["method"] == HOSTILE)
    compared = 0
    for line in panel["lines"]:
        ours = holds[line["method"], line["sigma"], line["grid"]]
        others = {"same": line["sigma"], **({"chosen": picked["sigma"]} if line["chosen"] else {})}
        assert set(line["gains"]) == (set() if line["method"] == HOSTILE else set(others))
        for name, (values, lower, upper) in line["gains"].items():
            theirs = holds[HOSTILE, others[name], ""]
            for i, (first, second) in enumerate(zip(ours, theirs, strict=True)):
                more, less, n = (first & ~second).sum(), (second & ~first).sum(), len(first) + 2
                mean = (more - less) / n  # Bonett and Price 2012, equation 3 with one more on each side
                half = 1.959964 * ((more + less + 2) / n - mean**2) ** 0.5 / n**0.5
                expected = 100 * (more - less) / len(first), 100 * (mean - half), 100 * (mean + half)
                assert (values[i], lower[i], upper[i]) == pytest.approx(expected, abs=0.0501)
                compared += values[i] != 0
    assert compared > 20


@slow
def test_what_is_said_of_an_image_is_its_certificate(small, page):
    galleries = page.data("images")
    gallery, experiment = galleries["digits"], small[2].experiment
    data = page.data("data")["tables"]["memory"]["gallery"]
    assert set(map(str, data["leading"])) <= set(map(str, data["runs"])) <= set(gallery["runs"])
    run = next(run for run in table_runs(experiment.params, "memory") if run.method == "cohen")
    frame = Certified(experiment, RESULTS).run(run, "test").frame.set_index("idx").loc[gallery["index"]]
    said = next(each for each in gallery["runs"].values() if each["method"] == HOSTILE and each["sigma"] == run.sigma)
    assert gallery["label"] == frame["label"].tolist()
    assert said["at"]["predict"] == frame["predict"].tolist()
    radius = np.array(said["at"]["radius"])
    assert ((radius <= frame["radius"]) & (frame["radius"] < radius + 0.001)).all()
    totals = np.broadcast_to(said["n"], len(frame))
    assert all(sum(counts[1::2]) <= total for counts, total in zip(said["counts"], totals, strict=True))


@slow
def test_certificates_that_are_gone_or_made_anew_are_said(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    results = made(tmp_path, "memory")
    table = RESULTS / "tables" / "memory.json"
    content = json.loads(table.read_text())
    content["sources"][0]["provenance"]["seconds"] += 1
    table.write_text(json.dumps(content))
    assert "were made anew since" in make_page(results.experiment, results=RESULTS).read_text()
    for path in (RESULTS / "certificates").rglob("*.parquet"):
        path.unlink()
    text = make_page(results.experiment, results=RESULTS).read_text()
    assert "Its certificates cannot be shown: " in text
    assert "95 % intervals for the finite test set" in text  # the table still is


@slow
@pytest.mark.parametrize("content", ["", "{", "[]", '{"kind": "certified"}', "[" * 100_000])
def test_a_damaged_table_is_named(content, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    results = made(tmp_path)
    (RESULTS / "tables").mkdir()
    (RESULTS / "tables" / "memory.json").write_text(content)
    (RESULTS / "tables" / "memory.md").write_text("# Memory\n")
    with pytest.raises(CertsmoothError, match=r"results/tables/memory\.json: .*make .*again"):
        make_page(results.experiment, results=RESULTS)


def test_a_library_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "markdown_it", None)
    with pytest.raises(MissingLibraryError, match=r"^markdown_it is not .*certsmooth\[workflow\]"):
        markdown.html("x")


def test_markdown_is_text_but_for_its_own_signs():
    paragraph = "A <b onclick=x>b</b> & [link](javascript:x) [within](#it)."
    table = "| A |  B |\n|:--|--:|\n| memory | 1 |"
    text = markdown.html(f"# Title\n\n{paragraph}\n\n{table}\n")
    tags = {tag for tag, _ in Elements(text).found}
    assert tags == {"p", "div", "table", "thead", "tbody", "tr", "th", "td", "span"}
    assert '<span class="promise promise-memory">memory</span>' in text
    assert "Title" not in text
    assert "[link](javascript:x) within." in text


def test_sections_of_markdown_can_be_left_out():
    text = "# T\n\nfirst\n\n## Best per radius\n\nbest\n\n## Kept\n\nkept\n\n## Provenance\n\n- made\n"
    assert re.findall("first|best|kept|made", markdown.html(text, without=["Best"])) == ["first", "kept"]
    assert re.findall("first|best|kept|made", markdown.provenance(text)) == ["made"]


def test_an_appendix_is_folded():
    text = markdown.html("# T\n\n## A\n\na\n\n## Appendix: b\n\nlong\n\n## Appendix: c\n\nlonger\n\n## D\n\nd\n")
    assert re.sub(r"\n", "", text) == (
        "<h4>A</h4><p>a</p><details><summary>Appendix: b</summary><p>long</p></details>"
        "<details><summary>Appendix: c</summary><p>longer</p></details><h4>D</h4><p>d</p>"
    )


@pytest.mark.parametrize("shape", [(7, 1, 8, 8), (5, 3, 6, 9)])
def test_a_sheet_holds_the_images_row_by_row(shape):
    images = np.random.default_rng(0).integers(0, 256, shape).astype(np.float64) / 255
    uri = pictures.sheet(pictures.as_bytes(images))
    whole = np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))))
    height, width, across = shape[2], shape[3], pictures.columns(shape[0])
    for place, image in enumerate(images):
        top, left = place // across * height, place % across * width
        found = whole[top : top + height, left : left + width].reshape(height, width, -1)
        assert (found == np.moveaxis(np.rint(image * 255), 0, -1)).all()


def test_large_images_are_made_smaller():
    assert pictures.shown_size(224, 112) == (64, 32)
    whole = pictures.sheet(np.full((1, 224, 224, 3), 7, np.uint8))
    image = Image.open(io.BytesIO(base64.b64decode(whole.partition(",")[2])))
    assert image.size == (64, 64)
    assert set(np.asarray(image).ravel().tolist()) == {7}


@given(st.integers(1, 200), st.integers(1, 60), st.sets(st.integers(0, 199), max_size=8))
def test_the_images_shown_are_the_worst_some_others_and_those_that_are_needed(images, most, needed):
    ranked = [3 * i for i in range(images)]
    wanted = [3 * i for i in needed if i < images]
    index, note = chosen(ranked, wanted, most)
    assert set(wanted) <= set(index) <= set(ranked)
    assert index == sorted(index)
    assert index[: min(most // 2, images)] == ranked[: most // 2]
    assert len(index) <= min(images, most + len(wanted))
    assert f"{len(index):,}" in note


RADII = st.lists(st.floats(-2, 2, allow_subnormal=False), min_size=2, max_size=20)


@given(RADII, st.lists(st.floats(0, 2), max_size=4))
def test_a_curve_counts_the_certificates_that_hold(radius, shown):
    (method,) = collect([certified_run(radius)], "test")
    (outcome,) = method.outcomes
    at = radii_of([method], shown)
    naive = [sum(value >= r and value >= 0 for value in radius) for r in at]
    held = curve(outcome, at)
    assert held == naive
    for number, (lower, upper) in intervals(held, of=len(radius), images=len(radius)).items():
        expected = accuracy_interval(number / len(radius), len(radius))
        assert (lower, upper) == pytest.approx([100 * end for end in expected], abs=0.006)


def test_the_worst_image_is_certified_as_another_class():
    # Of two runs: right, abstained or barely, wrong with a large radius in one, wrong in both with a small one.
    first = certified_run([0.5, 0.0, -0.9, -0.1])
    second = certified_run([0.5, 0.1, 0.2, -0.2], method="smoothadv")
    assert hardest([first, second]) == [40, 60, 20, 0]


class Recording(torch.nn.Module):
    """A classifier that keeps the first image of each batch that it sees."""

    def __init__(self, seen):
        super().__init__()
        self.see = lambda image: seen.append(image.clone())

    def forward(self, images):
        self.see(images[0])
        return torch.zeros(len(images), 2)


@pytest.mark.parametrize("step", [None, "1/16"])
def test_a_noisy_copy_is_the_first_that_is_counted(step):
    params = read_params(ROOT / "tests" / "golden" / "params.yaml")
    run = next(run for run in table_runs(params, "memory") if run.method == "cohen")
    spec = replace(Experiment(params).sample(run, "test"), step=step)
    images = torch.arange(3 * 64).view(3, 1, 8, 8).remainder(16).div(16)
    plan = SamplingPlan(spec.n0, spec.n, spec.seed, "digits/test", spec.noise, grid_of(step))
    for index, image, copy in zip([5, 20, 7], images, noisy_copies(images, [5, 20, 7], spec), strict=True):
        seen = []
        sampler = Sampler(Recording(seen), num_classes=2, plan=plan, batch_size=100)
        list(sampler.count(image[None], torch.tensor([spec.base.sigma]), [index]))
        assert (seen[0].numpy() == copy).all()


BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
in_browser = pytest.mark.skipif(BROWSER is None, reason="no Chromium here; `apt-get install chromium` brings one")
REPORT = """
const report = Object.assign(document.createElement("pre"), { id: "told", textContent: JSON.stringify(told) });
document.body.append(report);
"""


def told(folder, text, script, *options, anchor="memory"):
    """Open a page in a browser, run a script in it, return what that puts into ``told``, and the console's lines.

    No name of a host can be resolved: a request would fail, which the console says, as it does if the policy of the
    page refuses one.
    """
    head, _, tail = text.rpartition("</body>")
    path = folder / "acted.html"
    wait = "const wait = (ms) => new Promise((done) => setTimeout(done, ms)); const told = {}; await wait(500);"
    path.write_text(f"{head}<script type=module>{wait}{script}{REPORT}</script></body>{tail}")
    command = [BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", *options]
    command += [f"--user-data-dir={folder / 'profile'}", "--host-resolver-rules=MAP * ~NOTFOUND"]
    command += ["--disable-background-networking", "--virtual-time-budget=20000", "--dump-dom"]
    done = subprocess.run([*command, f"{path.as_uri()}#{anchor}"], capture_output=True, text=True, timeout=120)
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    found = re.search(r'<pre id="told">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found, (console, done.stderr[-2000:])
    return json.loads(unescape(found[1])), console


@slow
@in_browser
def test_a_browser_draws_it_without_an_error_or_a_request(small, tmp_path):
    script = """
    const shown = () => [...document.querySelectorAll("section.table:not([hidden])")].map((each) => each.id);
    told.sections = shown();
    told.lines = document.querySelectorAll("#memory [data-chart=curves] svg .mark-line path").length;
    told.alike = document.querySelectorAll("#memory [data-methods] input:checked").length;
    told.gains = document.querySelectorAll("#memory [data-chart=gains] svg .mark-line path").length;
    told.p_a = document.querySelectorAll("#memory [data-chart=p_a] svg").length;
    location.hash = "rates"; await wait(500);
    told.then = shown();
    told.current = document.querySelector("nav a[aria-current]").getAttribute("href");
    told.loaded = performance.getEntriesByType("resource").map((each) => each.name);
    told.loaded = told.loaded.filter((name) => !/^(data|blob):/.test(name));
    told.wide = document.documentElement.scrollWidth > innerWidth;
    """
    for width in (1400, 480):
        found, console = told(tmp_path, small[1], script, f"--window-size={width},900")
        assert console == []
        assert found["lines"] == found["alike"] == 3
        assert found | {"lines": 3, "alike": 3} == {
            **{"sections": ["memory"], "lines": 3, "alike": 3, "gains": 2, "p_a": 1},
            **{"then": ["rates"], "current": "#rates", "loaded": [], "wide": False},
        }


@slow
@in_browser
def test_tables_are_sorted_by_their_numbers(small, tmp_path):
    script = """
    const table = document.querySelectorAll("#memory .results")[0];
    const button = table.querySelector("th:last-child button");
    const column = () => [...table.tBodies[0].rows].map((row) => Number(row.lastElementChild.dataset.value));
    told.before = column(); button.click(); told.first = column(); button.click(); told.second = column();
    told.said = table.querySelector("th:last-child").getAttribute("aria-sort");
    table.querySelector("th button").click();
    told.names = [...table.tBodies[0].rows].map((row) => row.cells[0].textContent);
    """
    found, console = told(tmp_path, small[1], script)
    assert console == []
    assert found["first"] == sorted(found["before"], reverse=True)
    assert found["second"] == sorted(found["before"])
    assert found["said"] == "ascending"
    assert len(found["names"]) == 3
    assert found["names"][-2:] == ["Cohen-DS", "Cohen-DS, no memory"]


@slow
@in_browser
def test_lines_are_chosen_by_guarantee_method_and_sigma(small, tmp_path):
    script = """
    const section = document.querySelector("#memory"), choices = [...section.querySelectorAll(".choice")];
    const count = () => section.querySelectorAll("[data-chart=curves] svg .mark-line path").length;
    const box = (text) => choices.find((each) => each.textContent === text).querySelector("input");
    box("memory").click(); await wait(400); told.without_memory = count();
    box("memory").click(); box("Cohen-DS").click(); await wait(400); told.without_method = count();
    box("Cohen-DS").click();
    const select = section.querySelector("[aria-label=Setting]");
    select.value = "all"; select.dispatchEvent(new Event("change")); await wait(600); told.all = count();
    """
    found, console = told(tmp_path, small[1], script)
    assert console == []
    assert found == {"without_memory": 2, "without_method": 2, "all": 2 * (1 + 2 + 2)}


@slow
@in_browser
def test_images_are_filtered_by_their_sigma(small, page, tmp_path):
    script = """
    const details = document.querySelector("#memory .explorer");
    details.open = true; await wait(800);
    const set = (name, value) => { const each = details.querySelector(`[aria-label="${name}"]`);
      each.value = value; each.dispatchEvent(new Event("change")); };
    const list = () => { for (let more; (more = details.querySelector(".thumbs .quiet")); ) more.click();
      return [...details.querySelectorAll(".thumb")].map((each) => Number(each.dataset.index)); };
    told.found = {};
    for (const { value } of details.querySelector("[aria-label=A]").options) {
      set("A", value); told.found[value] = [];
      for (const option of [...details.querySelector('[aria-label="σ(x) of A"]').options]) {
        set("σ(x) of A", option.value); told.found[value].push([option.text, list()]);
      }
    }
    """
    found, console = told(tmp_path, small[1], script)
    assert console == []
    gallery, groups = page.data("images")["digits"], {}
    for run, (every, *parts) in found["found"].items():
        sigma = gallery["runs"][run]["at"]["sigma"]
        of = dict(zip(gallery["index"], sigma * (len(gallery["index"]) if len(sigma) == 1 else 1), strict=True))
        assert every == ["any σ(x)", every[1]]
        assert sorted(every[1]) == sorted(gallery["index"])
        assert sorted(index for _, part in parts for index in part) == sorted(gallery["index"])
        limits = [(min(of[i] for i in part), max(of[i] for i in part)) for _, part in parts]
        assert all(first[1] < second[0] for first, second in pairwise(limits))
        groups[run] = len(parts)
    assert set(groups.values()) == {1, 3}


@slow
@in_browser
def test_images_are_filtered_by_class_and_by_who_certifies_them(small, page, tmp_path):
    script = """
    const section = document.querySelector("#memory"), details = section.querySelector(".explorer");
    details.open = true; await wait(800);
    const set = async (name, value, type = "change") => { const each = details.querySelector(`[aria-label="${name}"]`);
      each.value = value; each.dispatchEvent(new Event(type)); };
    const list = () => { for (let more; (more = details.querySelector(".thumbs .quiet")); ) more.click();
      const thumbs = [...details.querySelectorAll(".thumb")];
      return thumbs.map((each) => [each.dataset.index, each.dataset.label].map(Number));
    };
    told.options = [...details.querySelector("[aria-label=A]").options].map((each) => each.value);
    told.all = list(); await set("Class", "3"); told.threes = list(); await set("Class", "any");
    await set("A", told.options[0]); await set("B", told.options[1]); await set("At radius", "0.3", "input");
    await set("Show", "a_not_b"); told.only_a = list();
    await set("Show", "both"); told.both = list();
    await set("Show", "a"); told.a = list();
    await set("Show", "any"); details.querySelectorAll(".thumb")[2].click();
    told.detail = details.querySelectorAll(".detail tbody tr").length;
    told.pictures = details.querySelectorAll(".detail .picture").length;
    """
    found, console = told(tmp_path, small[1], script)
    assert console == []
    gallery = page.data("images")["digits"]
    a, b = (gallery["runs"][each]["at"] for each in found["options"][:2])
    holds = [
        [p == label and r >= 0.3 for p, r, label in zip(each["predict"], each["radius"], gallery["label"], strict=True)]
        for each in (a, b)
    ]
    pairs = list(zip(gallery["index"], gallery["label"], *holds, strict=True))
    shown = {
        "all": [[i, label] for i, label, *_ in pairs],
        "threes": [[i, label] for i, label, *_ in pairs if label == 3],
        "a": [[i, label] for i, label, first, _ in pairs if first],
        "both": [[i, label] for i, label, first, second in pairs if first and second],
        "only_a": [[i, label] for i, label, first, second in pairs if first and not second],
    }
    assert {name: sorted(found[name]) for name in shown} == {name: sorted(each) for name, each in shown.items()}
    assert found["detail"] == len(found["options"])
    assert found["pictures"] == len(gallery["sheets"])
