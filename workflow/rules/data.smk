rule data:
    output:
        record="results/data/{dataset}.json",
        log="results/data/{dataset}.log.json",
    params:
        slice=lambda w: runs.data_slice(params, w.dataset),
        code=lambda w: source_digest(*data_code(w.dataset)),
    localrule: True
    log:
        "logs/data/{dataset}.log",
    shell:
        "certsmooth data --dataset {wildcards.dataset:q} --output {output.record:q} 2> {log:q}"
