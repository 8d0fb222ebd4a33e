def certified(w):
    return experiment.certify_batch(w.dataset, w.method, seeds(w))


rule certify:
    input:
        unpack(lambda w: derived_from(with_experts(certified(w).parts))),
    output:
        "results/certificates/{dataset}/{method}/seed={seeds}.parquet",
    params:
        spec=lambda w: certified(w).identity,
        code=lambda w: source_digest("experiment.steps.certify", *certificate_code(with_experts(certified(w).parts))),
    localrule: True
    log:
        "logs/certify/{dataset}/{method}/seed={seeds}.log",
    benchmark:
        "logs/benchmarks/certificates/{dataset}/{method}/seed={seeds}.jsonl"
    shell:
        "certsmooth certify {wildcards.dataset:q}/{wildcards.method:q}/seed={wildcards.seeds:q} 2> {log:q}"
