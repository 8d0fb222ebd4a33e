# The ledger: every published number beside the authors' files and ours, from the tables that say where theirs stand.
BESIDE = {name: table.published for name, table in params.tables.items() if getattr(table, "published", None)}


rule ledger:
    input:
        tables=[f"results/tables/{table}.csv" for table in [*BESIDE, "idrs/table1"]],
        data=dict.fromkeys(
            f"results/data/{choice.dataset}.json" for table in BESIDE for choice in runs.table_choices(params, table)
        ),
        derived=[path for path in ["results/tables/derived.csv"] if os.path.exists(path)],  # certsmooth ledger --logs
    output:
        multiext("results/tables/ledger", ".md", ".csv", ".json"),
    params:
        slice=specs.plain(BESIDE),
        code=source_digest("experiment.steps.ledger"),
    localrule: True
    log:
        "logs/tables/ledger.log",
    shell:
        "certsmooth ledger 2> {log:q}"
