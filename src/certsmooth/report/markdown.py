"""A table as Markdown, for people who read it on a web page."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from tabulate import tabulate

from certsmooth._internal.labels import legend
from certsmooth.analysis.result import Entry, PairedTest, Row, Source, TableResult

_DATASETS = {"cifar10": "CIFAR-10", "imagenet": "ImageNet", "mnist": "MNIST"}
_PAPERS = {"ddrs": "DDRS", "smoothadv": "SmoothAdv", "adre": "ADRE", "idrs": "IDRS"}
LEGEND = {
    "global": "holds at any time, on any device, whatever else is certified, for the program that ran.",
    "global (real arithmetic)": "the same for real numbers; the low bits of float32 noise are not covered.",
    "memory": "holds only within the stored session, for its images in their order.",
    "none": "not proved: a radius as some papers report it.",
}
"""What each guarantee says."""

_LINF = (
    "The certificates are for l2: a ball of l2 radius r holds the linf ball of radius r / sqrt(d) in d dimensions.\n"
)
_ABSENT = "–"


def render(result: TableResult, *, figure: str | None = None) -> str:
    """Return a table as Markdown.

    Args:
        result: the table.
        figure: a picture to show; its path relative to the Markdown file.
    """
    sections = [
        f"# {result.title}",
        _summary(result),
        *([f"![Certified accuracy against radius]({figure})"] if figure else []),
        _best_on_test(result),
        _best_on_validation(result),
        _paired_tests(result),
        *([_published(result)] if result.published else []),
        _per_setting(result),
        _memory(result),
        provenance(result.name, result.sources),
    ]
    return "\n\n".join(sections) + "\n"


def paragraph(*sentences: str) -> str:
    """Return the sentences that are not empty, as one paragraph."""
    return " ".join(sentence for sentence in sentences if sentence)


def _summary(result: TableResult) -> str:
    first, seeds = result.on_test[0], result.on_test[0].seeds
    mean = f"mean over {len(seeds)} training seeds" if len(seeds) > 1 else "one training seed"
    found = {g for row in result.on_test for g in row.guarantee}
    promises = [f"- `{name}`: {text}" for name, text in LEGEND.items() if name in found]
    return "\n".join(
        [
            paragraph(
                f"Certified accuracy in percent at {result.norm} radius r, and average certified radius",
                f"(ACR), on {first.images:,} test images of {dataset_name(first.dataset)}, {mean}.",
                "In brackets: 95 % intervals for the finite test set, Clopper-Pearson for accuracies,",
                "percentile bootstrap over images for the ACR.",
                "They take the trained models as given: training again is not covered.",
            ),
            "",
            *([_LINF] if result.norm == "linf" else []),
            legend(label for row in result.on_test for label in (row.train, row.certify)),
            "Guarantee: what a certificate promises:",
            "",
            *promises,
        ]
    )


def _best_on_test(result: TableResult) -> str:
    if len(result.per_setting) == len(result.on_test):
        caution = "Each method has one setting: nothing was chosen."
    else:
        caution = paragraph(
            "**Optimistic:** at each radius, sigma and the options of the method are the best on the very",
            "images that are scored. The intervals do not cover this choice.",
        )
    heading = "## Best per radius, chosen on the test set as in the paper"
    return "\n\n".join([heading, _rows(result.on_test, result.radii), caution])


def _best_on_validation(result: TableResult) -> str:
    heading = "## The same rows, chosen on the validation part"
    if not result.on_validation:
        return f"{heading}\n\nNo runs on a validation part were given, so there is no such choice to show."
    absent = [row.method for row in result.on_test if row.method not in {r.method for r in result.on_validation}]
    return "\n\n".join(
        [
            heading,
            _rows(result.on_validation, result.radii),
            paragraph(
                "At each radius, sigma and the options are the best on the validation part of the training",
                "set (ties: the higher ACR there, then the smaller sigma); the scores are of the test set.",
                f"Without validation runs: {', '.join(absent)}." if absent else "",
            ),
            "What the choice on the test set adds, in points of percent and in ACR:",
            _differences(result),
            "Chosen sigma and options:",
            _choices(result),
        ]
    )


def _rows(rows: Iterable[Row], radii: Sequence[float]) -> str:
    body = [
        [row.method, row.train, row.certify, _guarantee(row), *(cell(row.at(r)) for r in _columns(radii))]
        for row in rows
    ]
    return pipe_table(["Method", "Train", "Certify", "Guarantee", *_headings(radii)], body, text=4)


def _differences(result: TableResult) -> str:
    body = []
    for honest in result.on_validation:
        paper = next(row for row in result.on_test if row.method == honest.method)
        pairs = [(paper.at(r), honest.at(r)) for r in _columns(result.radii)]
        body.append([honest.method, *(_gain(a, b) for a, b in pairs)])
    return pipe_table(["Method", *_headings(result.radii)], body, text=1)


def _gain(paper: Entry | None, honest: Entry | None) -> str:
    if paper is None or honest is None:
        return _ABSENT
    return _signed(paper.value - honest.value, 3 if paper.metric == "acr" else 1)


def _choices(result: TableResult) -> str:
    body = [
        [row.method, row.selected_on, *(setting(row.at(r)) for r in _columns(result.radii))]
        for pair in zip(_matching(result.on_test, result.on_validation), result.on_validation, strict=True)
        for row in pair
    ]
    return pipe_table(["Method", "Chosen on", *_headings(result.radii)], body, text=2)


def _matching(rows: Iterable[Row], others: Sequence[Row]) -> list[Row]:
    return [row for row in rows if row.method in {other.method for other in others}]


def _paired_tests(result: TableResult) -> str:
    heading = f"## Paired tests against {result.baseline}"
    honest = [test for test in result.tests if test.selected_on == "validation"]
    tests = honest or [test for test in result.tests if test.selected_on == "test"]
    if not tests:
        return f"{heading}\n\nThere is no other method to compare."
    where = (
        "chosen on the validation part, so that the choice does not favour either side"
        if honest
        else "chosen **on the test set**, for want of validation runs: the p values do not cover this choice"
    )
    several = "With several training seeds, an image counts for the method that succeeds with more of them."
    mixed = "The tests compare radii, not what the certificates promise: the guarantees differ (see above)."
    method = paragraph(
        "McNemar's exact test (two-sided) at each radius, both methods on the same test images, settings",
        f"{where}. The last column is adjusted for all {len(tests)} tests of this table (Holm).",
        several if len(result.on_test[0].seeds) > 1 else "",
        mixed if len({row.guarantee for row in result.on_test}) > 1 else "",
    )
    return "\n\n".join([heading, method, _test_table(tests, result.baseline)])


def _test_table(tests: Iterable[PairedTest], baseline: str) -> str:
    body = [
        [
            test.method,
            f"{test.radius:g}",
            _signed(test.difference, 1),
            str(test.method_only),
            str(test.baseline_only),
            p_text(test.p_value),
            p_text(test.p_holm),
        ]
        for test in tests
    ]
    headings = ["Method", "r", "Difference", "Only method", f"Only {baseline}", "p", "p (Holm)"]
    return pipe_table(headings, body, text=1)


def _published(result: TableResult) -> str:
    first = result.published[0]
    found = {entry.radius for row in result.published for entry in row.entries}
    radii = sorted(radius for radius in found if radius is not None)
    columns = _columns(radii) if None in found else tuple(radii)
    source = f"{_PAPERS.get(first.paper or '', first.paper)} Table {first.table}, {dataset_name(first.dataset)}"
    if first.dataset == result.data:
        caution = "The data set is ours, but models and perhaps test images are others."
    else:
        caution = paragraph(
            f"**Another data set:** these rows are of {dataset_name(first.dataset)},",
            f"ours are of {dataset_name(result.data)}. Compare the pattern, not the numbers.",
        )
    body = [
        [
            f"{row.method} (published)",
            row.train,
            row.certify,
            row.sigma,
            *(cell(row.at(r)) for r in columns),
        ]
        for row in result.published
    ]
    return "\n\n".join(
        [
            f"## Published ({source})",
            paragraph(
                f"Not measured by us. {caution} The paper gives no intervals; guarantees were not checked here.",
                "At r = 0 stands the smoothed classifier's accuracy, which some papers call standard accuracy.",
            ),
            pipe_table(["Method", "Train", "Certify", "Sigma", *_headings(radii)[: len(columns)]], body, text=3),
        ]
    )


def _per_setting(result: TableResult) -> str:
    body = [
        [
            row.method,
            setting(row.at(None)),
            _guarantee(row),
            *(cell(row.at(r)) for r in _columns(result.radii)),
        ]
        for row in result.per_setting
    ]
    return "\n\n".join(
        [
            "## Each sigma",
            "One line per setting: nothing is chosen. A data-dependent sigma starts from the value given.",
            pipe_table(["Method", "Sigma", "Guarantee", *_headings(result.radii)], body, text=3),
        ]
    )


def _memory(result: TableResult) -> str:
    heading = "## Memory conflicts"
    if not result.memory:
        return f"{heading}\n\nNo run used a memory."
    body = [
        [
            effect.method,
            setting_text(effect.sigma, effect.variant),
            str(effect.seed),
            *(f"{n:,}" for n in (effect.images, effect.conflicts, effect.capped, effect.repredicted, effect.changed)),
            f"{effect.largest_loss:.3f}",
            _ABSENT if effect.acr_before is None else f"{effect.acr_before:.3f}",
            f"{effect.acr:.3f}",
        ]
        for effect in result.memory
    ]
    headings = ["Method", "Sigma", "Seed", "Images", "Conflicts", "Capped", "Repredicted"]
    headings += ["Changed", "Largest loss", "ACR before", "ACR after"]
    orders = "; ".join(_distinct(effect.order for effect in result.memory))
    total = sum(effect.conflicts for effect in result.memory)
    return "\n\n".join(
        [
            heading,
            paragraph(
                f"{total:,} conflicts in {len(result.memory)} test runs (order of the images: {orders}).",
                "Conflicts: pairs of images of different classes whose certified regions met.",
                "Capped: the radius was reduced. Repredicted: the prediction became that of an earlier",
                "image; the ACR before is then unknown. Changed: images whose radius is not the one before.",
            ),
            pipe_table(headings, body, text=2),
        ]
    )


def provenance(name: str, sources: Sequence[Source], *more: str) -> str:
    """Return the section that says how the runs of a table were made.

    Args:
        name: stem of the table's files.
        sources: the runs.
        more: further items.
    """
    parts = [(part, [s for s in sources if s.part == part]) for part in ("test", "validation")]
    lines = [_provenance_line(part, chosen) for part, chosen in parts if chosen]
    software = _software([each for s in sources for each in (s.provenance, *s.provenance["sampled_by"])])
    files = f"`{name}.json` holds the full provenance of every run, `{name}.csv` every number."
    items = (*lines, *(f"- {item}" for item in more), software, f"- {files}")
    return "\n".join(["## Provenance", "", *items])


def _software(makers: Sequence[Mapping[str, Any]]) -> str:
    """Return the line about what certified the runs and sampled their counts: entries of `MadeBy`."""
    versions = _distinct(f"{package} {version}" for made in makers for package, version in made["versions"].items())
    commits = _distinct(_short(str(made["git_commit"] or "unknown")) for made in makers)
    images = _distinct(_short(made["image"]["definition"]) for made in makers if made["image"] is not None)
    more = f"; container image of the definition {', '.join(images)}" if images else ""
    return f"- Software: {', '.join(versions)}; commit {', '.join(commits)}{more}."


def _provenance_line(part: str, sources: Sequence[Source]) -> str:
    def values(key: str, words: Callable[[object], str] = _plain) -> str:
        methods: dict[str, list[str]] = {}
        for source in sources:
            methods.setdefault(words(source.provenance[key]), []).append(source.method)
        if len(methods) == 1:
            return next(iter(methods))
        return ", ".join(f"{value} ({' and '.join(_distinct(names))})" for value, names in methods.items())

    fingerprint = _short(str(sources[0].provenance["fingerprint"]))
    stride = sources[0].provenance.get("stride", 1)
    subset = f" (every {stride}th)" if stride > 1 else ""
    seconds = sum(float(source.provenance["seconds"]) for source in sources)
    training_seeds = ", ".join(_distinct(str(source.seed) for source in sources))
    return paragraph(
        f"- {part.capitalize()} part: {values('description')}; fingerprint {fingerprint};",
        f"{values('images')} images{subset};",
        f"n0 = {values('n0')}, n = {values('n')}, alpha = {values('alpha')};",
        f"sampling seed {values('seed')}, training seed {training_seeds};",
        f"{values('step', _noise)};",
        f"{values('numeric_type')} on {values('device')}; {len(sources)} runs, {seconds:,.0f} s in all.",
    )


def _columns(radii: Sequence[float]) -> tuple[float | None, ...]:
    return (*radii, None)


def _headings(radii: Sequence[float]) -> list[str]:
    return [*(f"r={radius:g}" for radius in radii), "ACR"]


def cell(entry: Entry | None) -> str:
    """Return a value and, in brackets, its interval."""
    if entry is None:
        return _ABSENT
    digits = 3 if entry.metric == "acr" else 1
    if entry.lower is None or entry.upper is None:
        return f"{entry.value:.{digits}f}"
    return f"{entry.value:.{digits}f} [{entry.lower:.{digits}f}, {entry.upper:.{digits}f}]"


def setting(entry: Entry | None) -> str:
    """Return the sigma and the options that a value comes from."""
    return _ABSENT if entry is None or entry.sigma is None else setting_text(entry.sigma, entry.variant)


def setting_text(sigma: float, variant: Mapping[str, int | float | str]) -> str:
    """Return sigma and options."""
    return "; ".join([f"{sigma:g}", *(f"{key} {value}" for key, value in variant.items())])


def _guarantee(row: Row) -> str:
    return ", ".join(row.guarantee)


def _signed(value: float, digits: int) -> str:
    text = f"{value:+.{digits}f}"
    return text if float(text) else text[1:]


def p_text(value: float) -> str:
    """Return a p value."""
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def dataset_name(name: str) -> str:
    """Return the name of a data set as people write it."""
    return _DATASETS.get(name, name)


def _short(digest: str) -> str:
    """Return the first digits of a hash, with what comes before (``sha256:``) and after (``-dirty``)."""
    prefix, _, rest = digest.rpartition(":")
    digits, dash, suffix = rest.partition("-")
    return f"{prefix}{':' if prefix else ''}{digits[:12]}{dash}{suffix}"


def _noise(step: object) -> str:
    return "float32 noise" if step is None else f"noisy images rounded to multiples of {step}"


def _plain(value: object) -> str:
    return f"{value:,}" if isinstance(value, int) else str(value)


def _distinct(values: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(values))


def pipe_table(headings: Sequence[str], body: Sequence[Sequence[str]], *, text: int) -> str:
    """Return a pipe table whose first ``text`` columns are left-aligned, and the others right-aligned."""
    align = ["left"] * text + ["right"] * (len(headings) - text)
    return tabulate(body, headings, tablefmt="pipe", colalign=align, disable_numparse=True)
