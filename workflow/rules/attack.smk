ATTACKED = one_of(params.of_kind(EmpiricalTable))


def attack_files(table):
    return at(
        specs.audit_path(table, experiment.attacks(table, attack, *row).name, f"{attack}.{suffix}")
        for row in experiment.audited(table)
        for attack in params.tables[table].attacks
        for suffix in ("parquet", "log.json")
    )


def attacked(w):
    return experiment.attacks(w.table, w.attack, w.dataset, w.method)


def attack_code(w):
    parts = attacked(w).parts
    attacks = dict.fromkeys(f"science.attacks.{spec.attack.name}" for spec in parts)
    return source_digest("experiment.steps.attack", *attacks, *sample_code([spec.sampled for spec in parts]))


rule attack:
    input:
        unpack(lambda w: derived_from(attacked(w).parts)),
    output:
        counts="results/audits/{table}/{dataset}/{method}/seed={seeds}/{attack}.parquet",
        log="results/audits/{table}/{dataset}/{method}/seed={seeds}/{attack}.log.json",
    params:
        spec=lambda w: attacked(w).identity,
        code=attack_code,
    wildcard_constraints:
        table=ATTACKED,
        attack="[A-Za-z0-9_.-]+",
    threads: 1
    resources:
        gpu=1,
    log:
        "logs/attack/{table}/{dataset}/{method}/seed={seeds}/{attack}.log",
    benchmark:
        "logs/benchmarks/audits/{table}/{dataset}/{method}/seed={seeds}/{attack}.jsonl"
    shell:
        "certsmooth attack {wildcards.dataset:q}/{wildcards.method:q}/seed={wildcards.seeds:q} --table {wildcards.table:q}"
        " --attack {wildcards.attack:q} --threads {threads} 2> {log:q}"
