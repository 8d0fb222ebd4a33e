"""A table of clean accuracies over training seeds as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from certsmooth.analysis.accuracy_result import AccuracyMetric, AccuracyResult, Cell, Column
from certsmooth.analysis.published import PublishedNumber
from certsmooth.report.markdown import LEGEND, dataset_name, paragraph, pipe_table, provenance

_ABSENT = "–"
_SECTIONS: dict[AccuracyMetric, tuple[str, int]] = {
    "clean_accuracy": ("Clean accuracy (%)", 2),
    "abstention_rate": ("Abstention rate (%)", 2),
    "misclassification_rate": ("Misclassification rate (%)", 2),
    "classwise_accuracy_std": ("Class-wise std (%): standard deviation over classes of the class-wise accuracy", 3),
    "acr": ("Average certified radius (ACR)", 3),
}
_PUBLISHED = {
    "clean_accuracy": "Clean accuracy",
    "abstention_rate": "Abstention rate",
    "misclassification_rate": "Misclassification rate",
    "classwise_accuracy_std": "Class-wise std",
    "accuracy_std": "Clean accuracy, std over trainings",
    "abstention_rate_std": "Abstention rate, std over trainings",
    "misclassification_rate_std": "Misclassification rate, std over trainings",
}


def render(result: AccuracyResult, *, figure: str | None = None) -> str:
    """Return a table as Markdown.

    Args:
        result: the table.
        figure: a picture to show; its path relative to the Markdown file.
    """
    sections = [
        f"# {result.title}",
        _summary(result),
        *([f"![Certified accuracy against radius]({figure})"] if figure else []),
        *(_grid(result, metric) for metric in _SECTIONS),
        _sigma(result),
        _differences(result),
        *([_published(result)] if result.published else []),
        *(_provenance(result, dataset) for dataset in result.sources),
    ]
    return "\n\n".join(sections) + "\n"


def _summary(result: AccuracyResult) -> str:
    found = {g for cell in result.cells for g in cell.guarantee}
    datasets = {cell.column.dataset: cell for cell in result.cells}
    return "\n".join(
        [
            "Of the smoothed classifier on clean test images: accuracy (right, not abstained), abstention and",
            "misclassification (wrong, not abstained), and the standard deviation over classes of the class-wise",
            "accuracy (the share of the images of a class that are classified correctly).",
            "",
            "Each cell: mean over training seeds ± their sample standard deviation (none for one seed), and in",
            "brackets the standard error for the finite test set, the trained models taken as given. The standard",
            "deviation over the K classes is that of a population, with divisor K (IDRS does not say which; with",
            "K - 1 it is sqrt(K / (K - 1)) times as large: 5 % more for 10 classes). Classes without test images are",
            "left out.",
            "",
            *(_dataset_line(cell) for cell in datasets.values()),
            "",
            "Guarantee: what a certificate promises:",
            "",
            *(f"- `{name}`: {text}" for name, text in LEGEND.items() if name in found),
        ]
    )


def _dataset_line(cell: Cell) -> str:
    seeds = f"training seed{'s' if len(cell.seeds) > 1 else ''} {', '.join(map(str, cell.seeds))}"
    return f"- {dataset_name(cell.column.dataset)}: {cell.images:,} test images of {cell.classes} classes, {seeds}."


def headings(columns: Sequence[Column]) -> list[str]:
    """Return what to call each column: its sigma where all are of one data set, else its data set too."""
    several = len({column.dataset for column in columns}) > 1

    def heading(column: Column) -> str:
        sigma = [] if column.sigma is None else [f"σ = {column.sigma:g}"]
        return ", ".join([*([dataset_name(column.dataset)] if several or not sigma else []), *sigma])

    return [heading(column) for column in columns]


def _grid(result: AccuracyResult, metric: AccuracyMetric) -> str:
    title, digits = _SECTIONS[metric]

    def text(cell: Cell) -> str:
        quantity = cell.of(metric)
        seeds = "" if quantity.seed_sd is None else f" ± {quantity.seed_sd:.{digits}f}"
        return f"{quantity.value:.{digits}f}{seeds} ({quantity.image_error:.{digits}f})"

    body, note = _body(result, result.rows, text), ""
    if metric == "classwise_accuracy_std":
        chance = _body(result, [result.baseline], lambda cell: f"{cell.chance_std:.{digits}f}")[0]
        body.append(["(classes equally accurate)", "", *chance[2:]])
        note = "\n\nLast line: about what the finite test set alone would show if all classes were as accurate as "
        note += f"{result.baseline} is on average."
    return f"## {title}\n\n{pipe_table(['Method', 'Guarantee', *headings(result.columns)], body, text=2)}{note}"


def _body(result: AccuracyResult, rows: Iterable[str], text: Callable[[Cell], str]) -> list[list[str]]:
    body = []
    for row in rows:
        cells = [result.at(row, column) for column in result.columns]
        found = dict.fromkeys(g for cell in cells if cell is not None for g in cell.guarantee)
        body.append([row, ", ".join(found), *(_ABSENT if cell is None else text(cell) for cell in cells)])
    return body


def _sigma(result: AccuracyResult) -> str:
    body = _body(result, result.rows, lambda cell: f"{cell.sigma:.4g} [{cell.sigma_min:.4g}, {cell.sigma_max:.4g}]")
    return "\n\n".join(
        [
            "## Sigma",
            "Mean of sigma(x) over the test images, and its range.",
            pipe_table(["Method", "Guarantee", *headings(result.columns)], body, text=2),
        ]
    )


def _differences(result: AccuracyResult) -> str:
    heading = f"## Differences to {result.baseline}"
    others = [row for row in result.rows if row != result.baseline]
    if not others:
        return f"{heading}\n\nThere is no other row to compare."
    body = [
        [title.partition(":")[0], row, *cells]
        for metric, (title, digits) in _SECTIONS.items()
        for row, _, *cells in _body(result, others, _difference_text(metric, digits))
    ]
    return "\n\n".join(
        [
            heading,
            paragraph(
                "Difference to the baseline in the same column ± its standard error, paired by test images and by",
                "training seeds: the squares of the error over images and of the error over seeds, added. One of less",
                "than twice its error is no evidence of a difference.",
                "With one training seed, the trained models are taken as given."
                if all(len(cell.seeds) == 1 for cell in result.cells)
                else "",
            ),
            pipe_table(["Quantity", "Method", *headings(result.columns)], body, text=2),
        ]
    )


def _difference_text(metric: AccuracyMetric, digits: int) -> Callable[[Cell], str]:
    def text(cell: Cell) -> str:
        quantity = cell.of(metric)
        if quantity.difference is None:
            return _ABSENT
        # Adding 0.0 to what rounds to zero from below makes "-0.00" into "+0.00".
        return f"{round(quantity.difference, digits) + 0.0:+.{digits}f} ± {quantity.difference_error:.{digits}f}"

    return text


def _published(result: AccuracyResult) -> str:
    tables: dict[tuple[str, int], list[PublishedNumber]] = {}
    for number in result.published:
        tables.setdefault((number.paper, number.table), []).append(number)
    ours = {column.dataset for column in result.columns}
    caution = paragraph(
        "**Not measured by us**: other models, and perhaps other test images. Rates and standard deviations are in",
        "percent, converted where the paper prints fractions. Another data set shows the pattern, not the numbers.",
    )
    return "\n\n".join(["## Published", caution, *(_published_table(numbers, ours) for numbers in tables.values())])


def _published_table(numbers: Sequence[PublishedNumber], ours: set[str]) -> str:
    numbers = [number for number in numbers if number.dataset in ours] or numbers
    columns = list(dict.fromkeys((number.dataset, number.sigma) for number in numbers))
    rows: dict[tuple[str, str], dict[tuple[str, str], float]] = {}
    for number in numbers:
        rows.setdefault((number.metric, number.method), {})[number.dataset, number.sigma] = number.value
    body = [
        [
            _PUBLISHED.get(metric, metric),
            f"{method} (published)",
            *(f"{values[key]:g}" if key in values else _ABSENT for key in columns),
        ]
        for (metric, method), values in rows.items()
    ]
    shown = [f"{dataset_name(dataset)}, σ = {sigma}" for dataset, sigma in columns]
    source = f"### {numbers[0].paper.upper()} Table {numbers[0].table}"
    return f"{source}\n\n{pipe_table(['Quantity', 'Method', *shown], body, text=2)}"


def _provenance(result: AccuracyResult, dataset: str) -> str:
    text = provenance(result.name, result.sources[dataset])
    several = len(result.sources) > 1
    return text.replace("## Provenance", f"## Provenance: {dataset_name(dataset)}", 1) if several else text
