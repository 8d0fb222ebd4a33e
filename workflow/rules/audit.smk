# Soundness: what certificates promise, what the memory's order costs, which certificates an attack breaks.
AUDITED = one_of(params.soundness)


def audits(table, name):
    return [f"results/audit/{table}/{run.folder}/{name}" for run in runs.table_runs(params, table)]


def certificate_code(w):
    return f"science.certificates.{params.methods[w.method].certificate.name}"


rule order_cost:
    input:
        data=record,
        model=lambda w: checkpoint(runs.model_run(params, certification_run(w))),
        counts=lambda w: counts_files(certification_run(w), "test"),
    output:
        "results/audit/{table}/{dataset}/{method}/sigma={sigma}/seed={seed}/{variant}/order.json",
    params:
        slice=lambda w: runs.order_slice(params, w.table, certification_run(w)),
        code=lambda w: source_digest("experiment.steps.order_cost", certificate_code(w)),
    wildcard_constraints:
        table=AUDITED,
    log:
        "logs/audit/{table}/{dataset}/{method}/sigma={sigma}/seed={seed}/{variant}/order.log",
    shell:
        "certsmooth order-cost --table {wildcards.table:q} --dataset {wildcards.dataset:q}"
        " --method {wildcards.method:q} --sigma {wildcards.sigma:q} --seed {wildcards.seed:q}"
        " --variant {wildcards.variant:q} --data {input.data:q} --checkpoint {input.model:q}"
        " --counts {input.counts:q} --output {output:q} 2> {log:q}"


rule break_certificates:
    input:
        data=record,
        model=lambda w: checkpoint(runs.model_run(params, certification_run(w))),
        counts=lambda w: counts_files(certification_run(w), "test"),
    output:
        found="results/audit/{table}/{dataset}/{method}/sigma={sigma}/seed={seed}/{variant}/broken.parquet",
        log="results/audit/{table}/{dataset}/{method}/sigma={sigma}/seed={seed}/{variant}/broken.log.json",
    params:
        slice=lambda w: runs.break_slice(params, w.table, certification_run(w)),
        code=lambda w: source_digest(
            "experiment.steps.break_certificates",
            certificate_code(w),
            f"science.noise.{params.methods[w.method].noise}",
            f"science.sigma.{params.methods[w.method].policy.name}",
            f"science.models.{params.datasets[w.dataset].architecture}",
            *data_code(w.dataset),
        ),
    wildcard_constraints:
        table=AUDITED,
    threads: 1
    resources:
        gpu=1,
    log:
        "logs/audit/{table}/{dataset}/{method}/sigma={sigma}/seed={seed}/{variant}/broken.log",
    shell:
        "certsmooth break-certificates --table {wildcards.table:q} --dataset {wildcards.dataset:q}"
        " --method {wildcards.method:q} --sigma {wildcards.sigma:q} --seed {wildcards.seed:q}"
        " --variant {wildcards.variant:q} --threads {threads} --data {input.data:q} --checkpoint {input.model:q}"
        " --counts {input.counts:q} --output {output.found:q} 2> {log:q}"


rule soundness:
    input:
        certificates=lambda w: [certificates(run, "test") for run in runs.table_runs(params, w.table)],
        orders=lambda w: audits(w.table, "order.json"),
        broken=lambda w: audits(w.table, "broken.parquet"),
    output:
        multiext("results/{table}", ".md", ".csv", ".json"),
    params:
        slice=lambda w: runs.table_slice(params, w.table),
        code=source_digest("experiment.steps.table"),
    wildcard_constraints:
        table=AUDITED,
    localrule: True
    log:
        "logs/tables/{table}.log",
    shell:
        "certsmooth table {wildcards.table:q} 2> {log:q}"
