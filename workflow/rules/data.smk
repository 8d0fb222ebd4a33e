rule data:
    output:
        record="results/data/{dataset}.json",
        log="results/data/{dataset}.log.json",
    params:
        spec=lambda w: experiment.data(w.dataset).asked,
        code=lambda w: source_digest(*data_code(experiment.data(w.dataset))),
    localrule: True
    log:
        "logs/data/{dataset}.log",
    shell:
        "certsmooth data {wildcards.dataset:q} 2> {log:q}"
