rule table:
    input:
        data=lambda w: f"results/data/{runs.table_choice(params, w.table).dataset}.json",
        certificates=lambda w: certificates(runs.table_runs(params, w.table)),
    output:
        markdown="results/{table}.md",
        values=multiext("results/{table}", ".csv", ".json"),
        figure=multiext("results/figures/{table}", ".svg", ".png"),
        metrics="results/metrics/{table}.json",
        curves="results/plots/{table}.csv",
    params:
        slice=lambda w: runs.table_slice(params, w.table),
        code=source_digest("experiment.steps.table"),
    wildcard_constraints:
        table=one_of(params.tables),
    localrule: True
    log:
        "logs/tables/{table}.log",
    shell:
        "certsmooth table {wildcards.table:q} 2> {log:q}"
