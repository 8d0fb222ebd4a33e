# Tables and figures of IDRS: results/idrs/NAME.md, results/figures/idrs.


def figures(*names):
    return [f"results/figures/idrs/{name}.{suffix}" for name in names for suffix in ("svg", "png")]


rule accuracy:
    input:
        certificates=lambda w: [certificates(run, "test") for run in runs.table_runs(params, w.table)],
    output:
        markdown="results/idrs/{table}.md",
        values=multiext("results/idrs/{table}", ".csv", ".json"),
        figure=multiext("results/figures/idrs/{table}", ".svg", ".png"),
    params:
        slice=lambda w: runs.table_slice(params, w.table),
        code=source_digest("experiment.steps.table"),
    wildcard_constraints:
        table=one_of(params.idrs),
    localrule: True
    log:
        "logs/tables/idrs/{table}.log",
    shell:
        "certsmooth table {wildcards.table:q} 2> {log:q}"


rule theory:
    output:
        table=multiext("results/idrs/table1", ".md", ".csv", ".json"),
        figures=figures("figure2", "figure3", "figure11", "figure12", "figure13"),
    params:
        code=source_digest("experiment.steps.theory"),
    localrule: True
    log:
        "logs/tables/idrs/theory.log",
    shell:
        "certsmooth theory 2> {log:q}"


if params.toy:

    rule toy:
        input:
            data=f"results/data/{params.toy.dataset}.json",
            model=[checkpoint(runs.model_run(params, run)) for run in runs.toy_runs(params)[1]],
            certificates=[certificates(run, "test") for runs_ in runs.toy_runs(params) for run in runs_],
        output:
            figures("figure1", "figure5", "figure6", "figure7", "figure8", "figure9"),
        params:
            slice=runs.toy_slice(params),
            code=source_digest("experiment.steps.toy", *data_code(params.toy.dataset)),
        localrule: True
        log:
            "logs/tables/idrs/toy.log",
        shell:
            "certsmooth toy 2> {log:q}"


if params.high_dimension:

    rule high_dimension:
        input:
            certificates=[certificates(run, "test") for run in runs.high_dimension_runs(params)],
            published=[each.file for each in params.high_dimension.published],
        output:
            table=multiext("results/idrs/imagenet", ".md", ".csv", ".json"),
            figure=multiext("results/figures/idrs/imagenet", ".svg", ".png"),
        params:
            slice=runs.high_dimension_slice(params),
            code=source_digest("experiment.steps.high_dimension"),
        localrule: True
        log:
            "logs/tables/idrs/imagenet.log",
        shell:
            "certsmooth high-dimension 2> {log:q}"
