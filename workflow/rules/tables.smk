# Tables: results/tables/NAME.* and their figures. A rule per kind, named after it.
def made_of(w):
    """The certificates that a table compares, and what else its kind needs."""
    kind, files = params.tables[w.table].kind, certificates(runs.table_runs(params, w.table))
    files += [run.file for run in runs.published_runs(params, w.table)]
    if kind == "certified" and (dataset := runs.table_record(params, w.table)):
        files += [f"results/data/{dataset}.json"]
    elif kind == "empirical":
        files += attack_files(w.table)
    elif kind == "soundness":
        files += audits(w.table, "order.json", "broken.parquet")
    return files


def made_for(kind):
    """The files of a table of this kind; `snakemake --report` shows its numbers and its figures."""

    def reported(path, shows):
        return report(
            path,
            caption=f"../report/{shows}.rst",
            category="Tables" if shows == "numbers" else "Figures",
            subcategory=kind,
            labels={"table": "{table}", "shows": shows},
        )

    files = ["results/tables/{table}.md", "results/tables/{table}.json"]
    files += [reported("results/tables/{table}.csv", "numbers")]
    if kind != "soundness":
        files += [reported("results/tables/figures/{table}.svg", "curves"), "results/tables/figures/{table}.png"]
    if kind == "certified":
        files += [reported("results/tables/figures/p_a/{table}.svg", "p_a"), "results/tables/figures/p_a/{table}.png"]
        files += ["results/metrics/{table}.json", "results/plots/{table}.csv"]  # for DVC
    return files


for kind in ("certified", "accuracy", "empirical", "soundness"):

    rule:
        name:
            kind
        input:
            made_of,
        output:
            made_for(kind),
        params:
            slice=lambda w: runs.table_slice(params, w.table),
            code=source_digest("experiment.steps.table"),
        wildcard_constraints:
            table=one_of(name for name, table in params.tables.items() if table.kind == kind),
        localrule: True
        log:
            "logs/tables/{table}.log",
        shell:
            "certsmooth table {wildcards.table:q} 2> {log:q}"


# A table whose job failed is removed, and the link to it stays, at which Snakemake would stop.
if workflow.is_main_process:
    for link in RESULTS.glob("*.md"):
        if link.is_symlink() and not link.exists():
            link.unlink()


# What a reader asks for: links to the table and to the folder of the figures. Nobody's input, so nobody's output for DVC.
rule shown:
    input:
        "results/tables/{table}.md",
    output:
        "results/{table}.md",
    wildcard_constraints:
        table=one_of([*params.tables, "ledger"]),
    localrule: True
    shell:
        "ln -sfn tables/figures results/figures && ln -sf tables/{wildcards.table:q}.md {output:q}"
