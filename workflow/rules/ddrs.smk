# DDRS's own figure: results/tables/figures/ddrs.
if shown := runs.picture_runs(params):

    rule pictures:
        input:
            data=f"results/data/{params.dataset}.json",
            certificates=certificates(shown),
        output:
            multiext("results/tables/figures/ddrs/figure6", ".svg", ".png"),
        params:
            slice={"pictures": specs.plain(params.pictures), "label": params.methods[params.pictures.method].label},
            code=source_digest("experiment.steps.pictures", *data_code(experiment.data(params.dataset))),
        localrule: True
        log:
            "logs/tables/ddrs/figure6.log",
        shell:
            "certsmooth pictures 2> {log:q}"
