"""A table of soundness as Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from certsmooth.analysis.soundness_result import SoundnessResult, SoundnessRow
from certsmooth.report.markdown import LEGEND, dataset_name, p_text, paragraph, pipe_table, provenance, setting_text
from certsmooth.science.audit.order import Score

ORDERS = {
    "without": "No memory",
    "given": "Given order",
    "mean": "Shuffles, mean",
    "least": "Shuffles, least",
    "most": "Shuffles, most",
    "worst_found": "Worst order found",
    "bound": "Every order, at least",
}
"""Scores of `certsmooth.science.audit.order.OrderCost`, and what the table calls them."""

_KINDS = {
    "own": "ascent, sigma(x)",
    "start": "ascent, starting sigma",
    "lowest": "ascent, least sigma",
    "highest": "ascent, largest sigma",
    "up": "sigma drawn up",
    "down": "sigma drawn down",
    "nearest": "toward another class",
    "random": "random direction",
}


def render(result: SoundnessResult) -> str:
    """Return a table as Markdown."""
    sections = [
        f"# {result.title}",
        _summary(result),
        _methods(result.rows),
        _runs(result.rows),
        _order(result),
        _kinds(result.rows),
        provenance(result.name, result.sources, _attack_line(result)),
    ]
    return "\n\n".join(sections) + "\n"


def _summary(result: SoundnessResult) -> str:
    found = {guarantee for row in result.rows for guarantee in (row.before, *row.after)}
    tried = max(row.attacked.candidates for row in result.rows)
    return "\n".join(
        [
            paragraph(
                f"What the certificates of each method promise on {dataset_name(result.dataset)}, and what happens to",
                "them. Promise: without a memory, and as reported.",
                "Conflicts: pairs of images, certified as different classes without a memory, whose certified balls",
                "intersect; of two such certificates at most one is right.",
                f"Attacked: certificates (without a memory) in whose ball up to {tried} points x' were tried:",
                "gradient ascent against the certified class at several sigmas, and toward points where the policy",
                "chooses a small or a large sigma, both at half the radius and just inside it; the way toward the",
                "nearest image certified as another class; a random direction. Pixels are not clipped to [0, 1]: a",
                "certificate is about all points of its ball. At each point the classifier chooses sigma(x') afresh.",
                "Broken: at the most promising point PREDICT, with new noise for sigma(x') as well, answers another",
                "class than the certified one. Abstained: it abstains there, which breaks nothing. False alarms: at",
                "most so many wrong answers of PREDICT are expected, alpha for each certificate. p: at most the",
                "probability of as many broken ones if certificates are wrong no more often than their own alpha",
                "(binomial tail, Hoeffding 1956). Certificates that no attack breaks need not be right.",
            ),
            "",
            *(f"- `{name}`: {text}" for name, text in LEGEND.items() if name in found),
        ]
    )


def _methods(rows: Sequence[SoundnessRow]) -> str:
    grouped: dict[tuple[str, str, str], list[SoundnessRow]] = {}
    for row in rows:
        grouped.setdefault((row.method, row.before, ", ".join(row.after)), []).append(row)
    body = [[*key, str(len(some)), *_counts(some)] for key, some in grouped.items()]
    headings = ["Method", "Promise", "As reported", "Runs", "Conflicts", "Attacked", "Broken", "Share", "Abstained"]
    return "\n\n".join(["## Each method, all its runs", pipe_table([*headings, "False alarms"], body, text=3)])


def _runs(rows: Sequence[SoundnessRow]) -> str:
    body = [
        [
            *(row.method, _setting(row), str(row.seed), row.norm, row.before, ", ".join(row.after)),
            *(f"{row.order.images:,}", *_counts([row])),
            *(f"[{row.attacked.lower:.1f}, {row.attacked.upper:.1f}]", p_text(row.attacked.p_value)),
        ]
        for row in rows
    ]
    headings = [
        "Method",
        "Sigma",
        "Seed",
        "Norm",
        "Promise",
        "As reported",
        "Images",
        "Conflicts",
        "Attacked",
        "Broken",
    ]
    headings += ["Share", "Abstained", "False alarms", "95 % interval of the share", "p"]
    return "\n\n".join(["## Each run", pipe_table(headings, body, text=6)])


def _counts(rows: Sequence[SoundnessRow]) -> list[str]:
    found = [row.attacked for row in rows]
    attacked, broken = sum(each.certificates for each in found), sum(each.broken for each in found)
    return [
        f"{sum(row.order.conflicts for row in rows):,}",
        f"{attacked:,}",
        f"{broken:,}",
        f"{100 * broken / attacked:.1f} %" if attacked else "–",
        f"{sum(each.abstained for each in found):,}",
        f"{sum(each.false_alarms for each in found):.3g}",
    ]


def _setting(row: SoundnessRow) -> str:
    return setting_text(row.sigma, row.variant)


def _order(result: SoundnessResult) -> str:
    heading = "## What the order of the memory costs"
    conflicting = [row for row in result.rows if row.order.conflicts]
    if not conflicting:
        nothing = "In no run certified balls of different classes intersect: a memory changes nothing, in any order."
        return f"{heading}\n\n{nothing}"
    body = [
        [row.method, _setting(row), str(row.seed), row.norm, text, *_score(getattr(row.order, order))]
        for row in conflicting
        for order, text in ORDERS.items()
    ]
    headings = ["Method", "Sigma", "Seed", "Norm", "Order", *(f"r={radius:g}" for radius in result.radii), "ACR"]
    return "\n\n".join(
        [
            heading,
            paragraph(
                "Certified accuracy in percent at radius r, and ACR, of the runs with conflicts, by the order in which",
                f"images enter the memory. Shuffles: {conflicting[0].order.shuffles} random orders; each number by",
                "itself. Worst order found: the least over the given order, the shuffles, and one that enters wrong",
                "answers first and then those that take most from others. Every order, at least: what is left if each",
                "image met the order that is worst for it alone; proved, in `certsmooth.science.audit.order`.",
                "In the other runs a memory changes nothing, in any order."
                if len(conflicting) < len(result.rows)
                else "",
            ),
            pipe_table(headings, body, text=5),
        ]
    )


def _score(score: Score) -> list[str]:
    return [*(f"{100 * accuracy:.1f}" for accuracy in score.accuracy), f"{score.acr:.3f}"]


def _kinds(rows: Sequence[SoundnessRow]) -> str:
    heading = "## Where certificates broke"
    broken = [row for row in rows if row.attacked.broken]
    if not broken:
        return f"{heading}\n\nNone was broken."
    body = [
        [row.method, _setting(row), str(row.seed), *(f"{row.attacked.kinds[kind]:,}" for kind in _KINDS)]
        for row in broken
    ]
    return "\n\n".join(
        [
            heading,
            "Broken certificates by the kind of the point that promised most.",
            pipe_table(["Method", "Sigma", "Seed", *_KINDS.values()], body, text=2),
        ]
    )


def _attack_line(result: SoundnessResult) -> str:
    identities = [source.provenance for source in result.attack_sources]
    stride, plan = identities[0]["stride"], identities[0]["plan"]
    devices = ", ".join(dict.fromkeys(str(identity["device"]) for identity in identities))
    seconds = sum(float(identity["seconds"]) for identity in identities)
    return paragraph(
        f"Attacks: the certificates of {'all' if stride == 1 else f'1 in {stride}'} of the certified test images;",
        f"PREDICT with n = {result.n:,}, alpha = {result.alpha:g}; each point chosen by {plan['screen']} samples,",
        f"{plan['steps']} steps of ascent on {plan['samples']} noise samples; sampling seed {plan['seed']};",
        f"on {devices}; {len(identities)} jobs, {seconds:,.0f} s in all.",
    )
