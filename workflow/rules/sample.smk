def sample_code(w):
    return source_digest(
        "experiment.steps.sample",
        noise_code(w),
        f"science.sigma.{params.methods[w.method].policy.name}",
        f"science.models.{params.datasets[w.dataset].architecture}",
        *data_code(w.dataset),
    )


rule sample:
    input:
        data=record,
        model=lambda w: checkpoint(runs.model_run(params, certification_run(w))),
    output:
        counts="results/counts/{dataset}/{method}/sigma={sigma}/seed={seed}/{variant}/{part}-{shard}-of-{shards}.parquet",
        log="results/counts/{dataset}/{method}/sigma={sigma}/seed={seed}/{variant}/{part}-{shard}-of-{shards}.log.json",
    params:
        slice=lambda w: runs.sample_slice(params, certification_run(w)),
        code=sample_code,
    threads: 1
    resources:
        gpu=1,
    log:
        "logs/sample/{dataset}/{method}/sigma={sigma}/seed={seed}/{variant}/{part}-{shard}-of-{shards}.log",
    shell:
        "certsmooth sample --dataset {wildcards.dataset:q} --method {wildcards.method:q}"
        " --sigma {wildcards.sigma:q} --seed {wildcards.seed:q} --variant {wildcards.variant:q}"
        " --part {wildcards.part:q} --shard {wildcards.shard:q} --shards {wildcards.shards:q} --threads {threads}"
        " --data {input.data:q} --checkpoint {input.model:q} --output {output.counts:q} 2> {log:q}"
