"""All results as one page, of the tables that are there."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from certsmooth._internal.storage import atomic_write
from certsmooth.analysis import CertifiedRun
from certsmooth.analysis.overview import curve, distribution, gains, intervals, radii_of, setting_record
from certsmooth.analysis.result import source
from certsmooth.analysis.runs import Method, Outcome, collect, guarantees, options_text
from certsmooth.artefacts.provenance import made_by
from certsmooth.artefacts.records import read_record
from certsmooth.errors import CertsmoothError
from certsmooth.experiment.config import CertifiedTable, rows_of
from certsmooth.experiment.resolve import Experiment
from certsmooth.experiment.runs import published_runs, table_choices, table_runs
from certsmooth.experiment.steps.certified import Certified
from certsmooth.experiment.steps.gallery import Galleries, Ours
from certsmooth.report.page import DrawnTable, Page, page_html
from certsmooth.science.certificates import linf_radius

PAGE = "index.html"
OTHERS = ("idrs/table1", "idrs/imagenet", "ledger")
"""Tables that are no entry of ``tables``."""
_LARGEST = 2**27  # bytes of a table's JSON


def make_page(experiment: Experiment, *, results: Path) -> Path:
    """Write ``index.html`` of all tables that are there; one that is not is named.

    Args:
        experiment: all that is asked for.
        results: folder that holds ``tables``, and ``certificates``, ``counts`` and ``data`` for what tables do not say:
            curves, images. Where these are missing, or not what the table was made of, the page says so.

    Returns:
        The path of the page.

    Raises:
        ConfigError: a library that the page needs is not installed.
        CertsmoothError: a table is damaged, or the page cannot be written.
    """
    certified = Certified(experiment, results)
    found, missing = [], []
    # The one that people make first, `make table1`, is the one that is open.
    for name in sorted([*experiment.params.tables, *OTHERS], key=lambda name: name != "table1"):
        if (results / "tables" / f"{name}.json").is_file():
            found.append(_read(certified, name))
        else:
            missing.append(name)
    galleries = Galleries(experiment, results)
    for shown in found:
        galleries.add(shown.name, shown.representative, shown.leading)
    page = Page(
        dataset=experiment.params.dataset,
        tables=[_drawn(shown, galleries) for shown in found],
        missing=[name for name in missing if name in experiment.params.tables or _is_asked(experiment, name)],
        galleries=galleries.all(),
        made_by=asdict(made_by()),
    )
    with atomic_write(results / PAGE) as file:
        file.write(page_html(page).encode())
    return results / PAGE


def _is_asked(experiment: Experiment, name: str) -> bool:
    """Return whether params.yaml asks for a table that is no entry of ``tables``."""
    return name == "idrs/table1" or (name == "idrs/imagenet" and experiment.params.high_dimension is not None)


@dataclass(frozen=True)
class _Shown:
    """A table that is there.

    Attributes:
        name: of the table.
        content: its JSON.
        markdown: its text.
        runs: certificates that it compares, of the test split; none if they cannot be read.
        ours: those of them that were certified here.
        notes: what is to be said of the certificates.
        radii: at which its curves are given, besides others.
    """

    name: str
    content: Mapping[str, Any]
    markdown: str
    runs: Sequence[CertifiedRun] = ()
    ours: Sequence[Ours] = ()
    notes: Sequence[str] = ()
    radii: Sequence[float] = ()

    @property
    def chosen(self) -> set[tuple[str, float, str]]:
        """Method, sigma and options of the rows of the ACR, as the validation split chose them, or else the test split.

        Tables of other kinds choose nothing.
        """
        if self.content["kind"] != "certified":
            return set()
        rows = [row for row in self.content["values"] if row["metric"] == "acr"]
        honest = [row for row in rows if row["selected_on"] == "validation"]
        return {_key(row) for row in honest or [row for row in rows if row["selected_on"] == "test"]}

    @property
    def representative(self) -> list[Ours]:
        """One run of each setting, of the first seeds."""
        first: dict[Any, Ours] = {}
        for run, certified in self.ours:
            first.setdefault((run.dataset, run.method, run.sigma, run.grid), (run, certified))
        return list(first.values())

    @property
    def leading(self) -> list[Ours]:
        """Those that were chosen for the ACR; where nothing was chosen, the ones of the middle sigma."""
        every = self.representative
        every = [each for each in every if each[0].dataset == every[0][0].dataset]
        if chosen := self.chosen:
            return [each for each in every if _key_of(each[1]) in chosen]
        sigmas = sorted({run.sigma for run, _ in every})
        return [each for each in every if each[0].sigma == sigmas[(len(sigmas) - 1) // 2]]


def _key(row: Mapping[str, Any]) -> tuple[str, float, str]:
    return row["method"], float(row["chosen_sigma"]), row["chosen_grid"] or ""


def _key_of(run: CertifiedRun) -> tuple[str, float, str]:
    return run.label, float(run.sigma), options_text(run.grid)


def _read(certified: Certified, name: str) -> _Shown:
    """Read a table and the certificates that it compares."""
    path = certified.results / "tables" / name
    content, markdown = _json(path.with_name(f"{path.name}.json")), _text(path.with_name(f"{path.name}.md"))
    if name not in certified.experiment.params.tables:
        return _Shown(name, content, markdown)
    try:
        runs, ours = _runs(certified, name)
    except (CertsmoothError, OSError) as error:
        return _Shown(name, content, markdown, notes=[f"Its certificates cannot be shown: {error}"])
    notes = [] if _is_of(content, runs) else ["Some of its certificates were made anew since: make it again."]
    radii = sorted({radius for about in table_choices(certified.experiment.params, name) for radius in about.radii})
    return _Shown(name, content, markdown, runs, ours, notes, radii)


def _text(path: Path) -> str:
    """Return the text of a file of a table.

    Raises:
        CertsmoothError: it is missing, too large, or no text.
    """
    try:
        if path.stat().st_size > _LARGEST:
            raise CertsmoothError(f"{path}: {path.stat().st_size:,} bytes; must be at most {_LARGEST:,}")
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as cause:
        raise CertsmoothError(f"{path}: cannot be read ({cause}); make the table again") from cause


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(_text(path))
    except (json.JSONDecodeError, RecursionError) as cause:
        raise CertsmoothError(f"{path}: damaged ({cause}); make the table again") from cause
    needed = {"kind": str, "name": str, "title": str, "values": list, "sources": list, "versions": dict}
    for key, kind in needed.items():
        if not isinstance(content, dict) or not isinstance(content.get(key), kind):
            raise CertsmoothError(f"{path}: no {key}; must be the JSON of a table; make it again")
    return dict(content)


def _runs(certified: Certified, name: str) -> tuple[list[CertifiedRun], list[Ours]]:
    """Return all certificates of a table, in the order of its rows, and ours with what they are."""
    params = certified.experiment.params
    table, order = params.tables[name], rows_of(params.tables[name], params.dataset)
    ours = [(run, certified.run(run, "test")) for run in table_runs(params, name)]
    runs = [each for _, each in ours] + [certified.published(file) for file in published_runs(params, name)]
    if isinstance(table, CertifiedTable) and table.norm == "linf":
        (dataset,) = {about.dataset for about in table_choices(params, name)}
        data = certified.experiment.data(dataset)
        dimension = math.prod(read_record(certified.results / data.path, spec=data.identity)["image_shape"])
        runs = [_in_linf(each, dimension) for each in runs]
    return sorted(runs, key=lambda run: order.index(run.method)), ours


def _in_linf(run: CertifiedRun, dimension: int) -> CertifiedRun:
    """Return a run with the l-infinity radii that its certificates imply."""
    norm = run.provenance["norm"]
    radii = linf_radius(run.frame["radius"].to_numpy(), norm=norm, dimension=dimension)
    return replace(run, frame=run.frame.assign(radius=radii))


def _is_of(content: Mapping[str, Any], runs: Sequence[CertifiedRun]) -> bool:
    """Return whether a table says that it was made of these certificates."""
    told = {json.dumps(each, sort_keys=True) for each in content["sources"]}
    return all(json.dumps(source(run), sort_keys=True) in told for run in runs)


def _drawn(shown: _Shown, galleries: Galleries) -> DrawnTable:
    """Return a table as the page draws it."""
    by_dataset: dict[str, list[CertifiedRun]] = {}
    for run in shown.runs:
        by_dataset.setdefault(str(run.provenance["dataset"]), []).append(run)
    panels, settings, found = [], [], dict[str, dict[int, tuple[float, float]]]()
    for dataset, runs in by_dataset.items():
        methods = collect(runs, "test")
        panels.append(_panel(dataset, methods, shown, found))
        settings += [setting_record(method, outcome) for method in methods for outcome in method.outcomes]
    return DrawnTable(
        name=shown.name,
        content=shown.content,
        markdown=shown.markdown,
        notes=shown.notes,
        settings=settings,
        curves={"panels": panels, "intervals": found} if panels else None,
        gallery=galleries.of(shown.name),
    )


def _panel(
    dataset: str, methods: Sequence[Method], shown: _Shown, found: dict[str, dict[int, tuple[float, float]]]
) -> dict[str, Any]:
    """Return the curves of one data set, and add the intervals of their numbers to those that were found."""
    radii, chosen = radii_of(methods, shown.radii), shown.chosen
    baseline = next((method for method in methods if method.label == shown.content.get("baseline")), None)
    lines = []
    for method in methods:
        for outcome in method.outcomes:
            of, numbers = outcome.correct.size, curve(outcome, radii)
            known = found.setdefault(f"{of}/{outcome.images}", {})
            known |= intervals(set(numbers) - known.keys(), of=of, images=outcome.images)
            setting = method.label, outcome.setting.sigma, outcome.setting.options
            compared = {}
            if baseline is not None and method is not baseline:
                compared = _opposite(outcome, baseline, chosen if setting in chosen else ())
            lines.append(
                {
                    **dict(zip(("method", "sigma", "grid"), setting, strict=True)),
                    **{"kind": outcome.runs[0].kind, "guarantee": guarantees([outcome]), "chosen": setting in chosen},
                    **{"images": outcome.images, "of": of, "held": numbers, "p_a": distribution(outcome)},
                    "gains": {name: gains(outcome, other, radii) for name, other in compared.items()},
                }
            )
    norm = "linf" if shown.content.get("norm") == "linf" else str(methods[0].outcomes[0].runs[0].provenance["norm"])
    about = {"dataset": dataset, "norm": norm, "baseline": baseline and baseline.label}
    return {**about, "radii": [float(radius) for radius in radii], "lines": lines}


def _opposite(outcome: Outcome, baseline: Method, chosen: Collection[tuple[str, float, str]]) -> dict[str, Outcome]:
    """Return the settings of the baseline that a setting is compared with.

    Returns:
        ``same``: the one of its sigma; ``chosen``: the one that was chosen. Nothing for what the baseline has not, or
        has several of.
    """
    found = {
        "same": [each for each in baseline.outcomes if each.setting.sigma == outcome.setting.sigma],
        "chosen": [each for each in baseline.outcomes if _key_of(each.runs[0]) in chosen],
    }
    return {name: each[0] for name, each in found.items() if len(each) == 1}
