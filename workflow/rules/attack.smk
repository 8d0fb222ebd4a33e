ATTACKED = one_of(params.attacks)


def attack_files(table):
    return [
        f"results/attacks/{table}/{run.folder}/{attack}.{suffix}"
        for run in runs.table_runs(params, table)
        for attack in params.attacks[table].attacks
        for suffix in ("parquet", "log.json")
    ]


def attack_code(w):
    attacks = params.attacks[w.table].attacks
    return source_digest(
        "experiment.steps.attack",
        f"science.noise.{params.methods[w.method].noise}",
        f"science.attacks.{attacks[w.attack].attack.name}",
        f"science.sigma.{params.methods[w.method].policy.name}",
        f"science.models.{params.datasets[w.dataset].architecture}",
        *data_code(w.dataset),
    )


rule attack:
    input:
        data=record,
        model=lambda w: checkpoint(runs.model_run(params, certification_run(w))),
        counts=lambda w: counts_files(certification_run(w), "test"),
    output:
        counts="results/attacks/{table}/{dataset}/{method}/sigma={sigma}/seed={seed}/{variant}/{attack}.parquet",
        log="results/attacks/{table}/{dataset}/{method}/sigma={sigma}/seed={seed}/{variant}/{attack}.log.json",
    params:
        slice=lambda w: runs.attack_slice(params, w.table, w.attack, certification_run(w)),
        code=attack_code,
    wildcard_constraints:
        table=ATTACKED,
        attack="[A-Za-z0-9_.-]+",
    threads: 1
    resources:
        gpu=1,
    log:
        "logs/attack/{table}/{dataset}/{method}/sigma={sigma}/seed={seed}/{variant}/{attack}.log",
    shell:
        "certsmooth attack --table {wildcards.table:q} --attack {wildcards.attack:q} --dataset {wildcards.dataset:q}"
        " --method {wildcards.method:q} --sigma {wildcards.sigma:q} --seed {wildcards.seed:q}"
        " --variant {wildcards.variant:q} --threads {threads} --data {input.data:q} --checkpoint {input.model:q}"
        " --counts {input.counts:q} --output {output.counts:q} 2> {log:q}"


rule empirical:
    input:
        certificates=lambda w: [certificates(run, "test") for run in runs.table_runs(params, w.table)],
        attacks=lambda w: attack_files(w.table),
    output:
        markdown="results/{table}.md",
        values=multiext("results/{table}", ".csv", ".json"),
        figure=multiext("results/figures/{table}", ".svg", ".png"),
    params:
        slice=lambda w: runs.table_slice(params, w.table),
        code=source_digest("experiment.steps.table"),
    wildcard_constraints:
        table=ATTACKED,
    localrule: True
    log:
        "logs/tables/{table}.log",
    shell:
        "certsmooth table {wildcards.table:q} 2> {log:q}"
