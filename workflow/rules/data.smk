rule data:
    output:
        "results/data/{dataset}.json",
    params:
        slice=lambda w: runs.data_slice(params, w.dataset),
        code=lambda w: source_digest(*data_code(w.dataset)),
    log:
        "logs/data/{dataset}.log",
    shell:
        "certsmooth data --dataset {wildcards.dataset:q} --output {output:q} 2> {log:q}"
