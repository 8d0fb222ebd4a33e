# Soundness: what certificates promise, what the memory's order costs, which certificates an attack breaks.
AUDITED = one_of(params.of_kind(SoundnessTable))


def audits(table, *files):
    names = [experiment.breakings(table, *row).name for row in experiment.audited(table)]
    return at(specs.audit_path(table, name, file) for name in names for file in files)


def ordered(w):
    return experiment.orders(w.table, w.dataset, w.method)


def broken(w):
    return experiment.breakings(w.table, w.dataset, w.method)


def certificates_in(batch):
    return [spec.certified for spec in batch.parts]


rule order_cost:
    input:
        unpack(lambda w: derived_from(with_experts(certificates_in(ordered(w))))),
    output:
        "results/audits/{table}/{dataset}/{method}/seed={seeds}/order.json",
    params:
        spec=lambda w: ordered(w).identity,
        code=lambda w: source_digest(
            "experiment.steps.order_cost", *certificate_code(with_experts(certificates_in(ordered(w))))
        ),
    wildcard_constraints:
        table=AUDITED,
    log:
        "logs/audit/{table}/{dataset}/{method}/seed={seeds}/order.log",
    benchmark:
        "logs/benchmarks/audits/{table}/{dataset}/{method}/seed={seeds}/order.jsonl"
    shell:
        "certsmooth order-cost {wildcards.dataset:q}/{wildcards.method:q}/seed={wildcards.seeds:q}"
        " --table {wildcards.table:q} 2> {log:q}"


rule break_certificates:
    input:
        unpack(lambda w: derived_from(with_experts(certificates_in(broken(w))))),
    output:
        found="results/audits/{table}/{dataset}/{method}/seed={seeds}/broken.parquet",
        log="results/audits/{table}/{dataset}/{method}/seed={seeds}/broken.log.json",
    params:
        spec=lambda w: broken(w).identity,
        code=lambda w: source_digest(
            "experiment.steps.break_certificates",
            *certificate_code(with_experts(certificates_in(broken(w)))),
            *sample_code([spec.sampled for spec in with_experts(certificates_in(broken(w)))]),
        ),
    wildcard_constraints:
        table=AUDITED,
    threads: 1
    resources:
        gpu=1,
    log:
        "logs/audit/{table}/{dataset}/{method}/seed={seeds}/broken.log",
    benchmark:
        "logs/benchmarks/audits/{table}/{dataset}/{method}/seed={seeds}/broken.jsonl"
    shell:
        "certsmooth break-certificates {wildcards.dataset:q}/{wildcards.method:q}/seed={wildcards.seeds:q}"
        " --table {wildcards.table:q} --threads {threads} 2> {log:q}"
