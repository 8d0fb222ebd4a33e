"""A table of certified against empirical accuracy as Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from certsmooth.analysis.empirical_result import EmpiricalResult, Verdict
from certsmooth.report.markdown import (
    LEGEND,
    cell,
    dataset_name,
    p_text,
    paragraph,
    pipe_table,
    provenance,
    setting,
    setting_text,
)


def render(result: EmpiricalResult, *, figure: str | None = None) -> str:
    """Return a table as Markdown.

    Args:
        result: the table.
        figure: a picture to show; its path relative to the Markdown file.
    """
    sections = [
        f"# {result.title}",
        _summary(result),
        _verdict(result),
        *([f"![Certified and empirical accuracy against radius]({figure})"] if figure else []),
        _envelope(result),
        _per_setting(result),
        _soundness(result),
        provenance(result.name, result.sources, _attack_line(result)),
    ]
    return "\n\n".join(sections) + "\n"


def _summary(result: EmpiricalResult) -> str:
    first = result.envelope[0]
    mean = f"mean over {len(first.seeds)} training seeds" if len(first.seeds) > 1 else "one training seed"
    found = {g for curve in result.envelope for g in curve.guarantee}
    return "\n".join(
        [
            paragraph(
                f"Accuracy in percent at l2 radius r, on {first.images:,} test images of",
                f"{dataset_name(result.dataset)}, {mean}.",
                "Certified: the prediction is right and its certified radius at least r.",
                "Empirical: PREDICT gives the label at the image that an attack of radius r returns; an abstention is",
                "wrong. At r = 0 nothing is attacked. An attack is an upper bound on the accuracy that an adversary",
                "leaves, a certificate a lower one: the closer they are, the stronger the attack.",
                "In brackets: 95 % intervals (Clopper-Pearson) for the finite test set, the trained models taken as",
                "given.",
                "Methods with a memory are attacked without it." if "memory" in found else "",
            ),
            "",
            *(f"- {attack.label}: {attack.description}{_samples(attack.samples)}." for attack in result.attacks),
            "",
            "Guarantee: what a certificate promises:",
            "",
            *(f"- `{name}`: {text}" for name, text in LEGEND.items() if name in found),
        ]
    )


def _samples(samples: Sequence[int]) -> str:
    return f"; m: the noise samples that it sees, {', '.join(map(str, samples))}" if any(samples) else ""


def _verdict(result: EmpiricalResult) -> str:
    every = result.verdict
    if every is None:
        return "**Attacks against certificates:** no certificate has the guarantee `global`, so none was checked."
    runs = f" (in {len(result.soundness)} runs)" if len(result.soundness) > 1 else ""
    verdict = "**more than alpha allows: something is wrong**" if every.p_value < 0.001 else "no more than alpha allows"
    return paragraph(
        f"**Attacks against certificates:** {every.contradicted:,} of {every.checked:,} certified images"
        f"{runs} contradicted in {every.checks:,} checks (alpha allows up to {every.expected:.1f} expected);",
        f"p {_equals(every.p_value)}, {verdict}.",
    )


def _envelope(result: EmpiricalResult) -> str:
    if len(result.per_setting) == len(result.envelope):
        caution = "Each method has one setting: nothing was chosen."
    else:
        caution = paragraph(
            "**Optimistic:** at each radius, sigma and the options of the method are the best on the very images that",
            "are scored, for each line of its own. The intervals do not cover this choice.",
        )
    body = [
        [curve.method, ", ".join(curve.guarantee), curve.name, *(cell(entry) for entry in curve.entries)]
        for curve in result.envelope
    ]
    chosen = [[curve.method, curve.name, *(setting(entry) for entry in curve.entries)] for curve in result.envelope]
    radii = _headings(result.radii)
    return "\n\n".join(
        [
            "## Best per radius, chosen on the test set as in the paper's figure",
            pipe_table(["Method", "Guarantee", "Accuracy", *radii], body, text=3),
            caution,
            "Chosen sigma and options:",
            pipe_table(["Method", "Accuracy", *radii], chosen, text=2),
        ]
    )


def _per_setting(result: EmpiricalResult) -> str:
    body = [
        [
            curve.method,
            setting(curve.entries[0]),
            ", ".join(curve.guarantee),
            curve.name,
            *(cell(entry) for entry in curve.entries),
        ]
        for curve in result.per_setting
    ]
    return "\n\n".join(
        [
            "## Each sigma",
            "Nothing is chosen. A data-dependent sigma starts from the value given.",
            pipe_table(["Method", "Sigma", "Guarantee", "Accuracy", *_headings(result.radii)], body, text=4),
        ]
    )


def _soundness(result: EmpiricalResult) -> str:
    heading = "## Attacks against certificates"
    if not result.soundness:
        return f"{heading}\n\nNo certificate has the guarantee `global`."
    body = [
        [each.method, setting_text(each.sigma, each.variant), str(each.seed), *_numbers(each.verdict)]
        for each in result.soundness
    ]
    headings = ["Method", "Sigma", "Seed", "Images", "Checked", "Checks", "Contradicted", "Allowed", "p"]
    return "\n\n".join(
        [
            heading,
            paragraph(
                "A check: an attack's result nearer to an image than its certified radius (distances are measured, not",
                "assumed). It contradicts a `global` certificate if PREDICT gives another class than the certified",
                "one; an abstention does not. Checked: images with at least one check. Allowed: the expected number of",
                "contradicted images is at most alpha of the certificate, once per image, plus PREDICT's alpha, once",
                "per check (union bound). p: at most the probability of as many contradicted images if all",
                "certificates hold as often as they say (binomial tail, Hoeffding 1956; the number of checks is taken",
                "as given). Runs share their noise: the p value over all of them is the smallest times their number.",
            ),
            pipe_table(headings, body, text=2),
        ]
    )


def _numbers(each: Verdict) -> Iterable[str]:
    counted = (each.images, each.checked, each.checks, each.contradicted)
    return (*(f"{n:,}" for n in counted), f"{each.expected:.2f}", p_text(each.p_value))


def _attack_line(result: EmpiricalResult) -> str:
    identities = [source.provenance for source in result.attack_sources]
    stride = identities[0]["stride"]
    devices = ", ".join(dict.fromkeys(str(identity["device"]) for identity in identities))
    seconds = sum(float(identity["seconds"]) for identity in identities)
    return paragraph(
        f"Attacks: {'all' if stride == 1 else f'1 in {stride}'} of the certified test images;",
        f"PREDICT with n = {result.n:,}, alpha = {result.alpha:g};",
        f"sampling seed {identities[0]['seed']}; on {devices}; {len(identities)} jobs, {seconds:,.0f} s in all.",
    )


def _headings(radii: Sequence[float]) -> list[str]:
    return [f"r={radius:g}" for radius in radii]


def _equals(p_value: float) -> str:
    text = p_text(p_value)
    return text if text.startswith("<") else f"= {text}"
