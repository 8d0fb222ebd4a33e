rule certify:
    input:
        data=record,
        model=lambda w: checkpoint(runs.model_run(params, certification_run(w))),
        counts=lambda w: counts_files(certification_run(w), w.part),
    output:
        table="results/certificates/{dataset}/{method}/sigma={sigma}/seed={seed}/{variant}/{part}.tsv",
        provenance="results/certificates/{dataset}/{method}/sigma={sigma}/seed={seed}/{variant}/{part}.json",
    params:
        slice=lambda w: runs.certify_slice(params, certification_run(w)),
        code=lambda w: source_digest("experiment.steps.certify", f"science.certificates.{params.methods[w.method].certificate.name}"),
    localrule: True
    log:
        "logs/certify/{dataset}/{method}/sigma={sigma}/seed={seed}/{variant}/{part}.log",
    shell:
        "certsmooth certify --dataset {wildcards.dataset:q} --method {wildcards.method:q}"
        " --sigma {wildcards.sigma:q} --seed {wildcards.seed:q} --variant {wildcards.variant:q}"
        " --part {wildcards.part:q} --data {input.data:q} --checkpoint {input.model:q}"
        " --counts {input.counts:q} --output {output.table:q} 2> {log:q}"
