# The workflow: raw images -> checkpoints -> counts -> certificates -> tables. Rules live in workflow/rules; what there is
# to do comes from params.yaml. `snakemake --cores all results/table1.md`
configfile: "params.yaml"


include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/sample.smk"
include: "workflow/rules/certify.smk"
include: "workflow/rules/attack.smk"
include: "workflow/rules/tables.smk"


rule all:
    default_target: True
    input:
        expand("results/{table}.md", table=[*params.tables, *params.attacks]),


# One target per stage of dvc.yaml.


rule checkpoints:
    input:
        [checkpoint(runs.model_run(params, run)) for run in all_runs()],


rule counts:
    input:
        [path for run in all_runs() for part in runs.PARTS for path in counts_files(run, part)],


rule certificates:
    input:
        [certificates(run, part) for run in all_runs() for part in runs.PARTS],


rule attacks:
    input:
        [path for table in params.attacks for path in attack_files(table)],
