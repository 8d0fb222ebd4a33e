# The workflow: raw images -> checkpoints -> counts -> certificates -> tables. Rules live in workflow/rules; what there is
# to do comes from params.yaml. `snakemake --cores all results/table1.md`
# No configfile: Snakemake's reader evaluates expressions in a file that asks for it (`__use_yte__`); params.yaml is data.


container: "containers/certsmooth.sif"  # with --sdm apptainer only; `make image` makes it


include: "workflow/rules/common.smk"
include: "workflow/rules/metadata.smk"
include: "workflow/rules/devices.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/sample.smk"
include: "workflow/rules/certify.smk"
include: "workflow/rules/attack.smk"
include: "workflow/rules/tables.smk"
include: "workflow/rules/idrs.smk"
include: "workflow/rules/ddrs.smk"
include: "workflow/rules/ledger.smk"
include: "workflow/rules/audit.smk"
include: "workflow/rules/page.smk"


rule all:
    default_target: True
    input:
        expand("results/tables/{table}.md", table=[*params.tables, "idrs/table1"]),
        figures("figure1") if params.toy else [],
        "results/tables/figures/ddrs/figure6.svg" if runs.picture_runs(params) else [],
        "results/tables/idrs/imagenet.md" if params.high_dimension else [],
        PAGE if DRAWS else [],


# The first stage of dvc.yaml. What may download: for a machine with internet, before jobs run on others.
rule datasets:
    input:
        at(dict.fromkeys(spec.data.path for spec in experiment.models())),


# Targets of the other stages of dvc.yaml; that of the last is `all`. Attacks and audits belong to it.


rule checkpoints:
    input:
        at(spec.path for spec in experiment.models()),


rule counts:
    input:
        at(path for batch in experiment.all_counts() for path in specs.counts_paths(batch)),


rule certificates:
    input:
        at(specs.certificates_path(batch.name) for batch in experiment.all_certificates()),


rule audits:
    input:
        [path for table in params.of_kind(SoundnessTable) for path in audits(table, "order.json", "broken.parquet")],


rule attacks:
    input:
        [path for table in params.of_kind(EmpiricalTable) for path in attack_files(table)],


include: "workflow/rules/slurm.smk"


onstart:
    check_array_jobs()
    without_a_rate_of_jobs(workflow.scheduler)
