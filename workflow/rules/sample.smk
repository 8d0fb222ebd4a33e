def sampled(w):
    return experiment.sample_batch(w.dataset, w.method, seeds(w))


# One job samples all sigmas, grid points and splits of a method: `update` leaves it what was sampled before.
rule sample:
    input:
        unpack(lambda w: bases(sampled(w).parts)),
    output:
        counts=update("results/counts/{dataset}/{method}/seed={seeds}/{shard}-of-{shards}.parquet"),
        log=update("results/counts/{dataset}/{method}/seed={seeds}/{shard}-of-{shards}.log.json"),
    params:
        spec=lambda w: sampled(w).identity,
        code=lambda w: source_digest("experiment.steps.sample", *sample_code(sampled(w).parts)),
    threads: 1
    resources:
        gpu=1,
    log:
        "logs/sample/{dataset}/{method}/seed={seeds}/{shard}-of-{shards}.log",
    benchmark:
        "logs/benchmarks/counts/{dataset}/{method}/seed={seeds}/{shard}-of-{shards}.jsonl"
    shell:
        "certsmooth sample {wildcards.dataset:q}/{wildcards.method:q}/seed={wildcards.seeds:q}"
        " --shard {wildcards.shard:q}/{wildcards.shards:q} --threads {threads} 2> {log:q}"
