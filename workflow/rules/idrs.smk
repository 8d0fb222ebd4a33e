# IDRS's own tables and figures: results/tables/idrs, results/tables/figures/idrs.


def figures(*names):
    return [f"results/tables/figures/idrs/{name}.{suffix}" for name in names for suffix in ("svg", "png")]


def toy_spec():
    _, (dependent,) = runs.toy_runs(params)
    return {"toy": specs.plain(params.toy), "policy": specs.plain(experiment.sample(dependent, "test").policy)}


def high_dimension_spec():
    labels = [params.methods[run.method].label for run in runs.high_dimension_runs(params)]
    published = [(params.methods[name].label, *each) for name, *each in runs.high_dimension_files(params)]
    return {"high_dimension": specs.plain(params.high_dimension), "labels": labels[:1], "published": published}


rule theory:
    output:
        table=multiext("results/tables/idrs/table1", ".md", ".csv", ".json"),
        figures=figures("figure2", "figure3", "figure11", "figure12", "figure13", "figure14"),
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
            model=at(experiment.train(runs.model_run(params, run)).path for run in runs.toy_runs(params)[1]),
            certificates=certificates([run for shown in runs.toy_runs(params) for run in shown]),
        output:
            figures("figure1", "figure5", "figure6", "figure7", "figure8", "figure9"),
        params:
            slice=toy_spec(),
            code=source_digest("experiment.steps.toy", *data_code(experiment.data(params.toy.dataset))),
        localrule: True
        log:
            "logs/tables/idrs/toy.log",
        shell:
            "certsmooth toy 2> {log:q}"


if params.high_dimension:

    rule high_dimension:
        input:
            certificates=certificates(runs.high_dimension_runs(params)),
            published=[file for *_, file in runs.high_dimension_files(params)],
        output:
            table=multiext("results/tables/idrs/imagenet", ".md", ".csv", ".json"),
            figure=multiext("results/tables/figures/idrs/imagenet", ".svg", ".png"),
        params:
            slice=high_dimension_spec(),
            code=source_digest("experiment.steps.high_dimension"),
        localrule: True
        log:
            "logs/tables/idrs/imagenet.log",
        shell:
            "certsmooth high-dimension 2> {log:q}"
