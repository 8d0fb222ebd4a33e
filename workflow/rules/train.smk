def train_code(w):
    training, dataset = params.trainings[w.training], params.datasets[w.dataset]
    return source_digest(
        "steps.train",
        f"objectives.{training.objective.name}",
        f"sigma.{training.policy.name}",
        f"models.{dataset.architecture}",
        *data_code(w.dataset),
    )


rule train:
    input:
        data=record,
    output:
        model="results/checkpoints/{dataset}/{training}/sigma={sigma}/seed={seed}/model.safetensors",
        log="results/checkpoints/{dataset}/{training}/sigma={sigma}/seed={seed}/training.csv",
    params:
        slice=lambda w: runs.train_slice(params, model_run(w)),
        code=train_code,
    threads: 1
    log:
        "logs/train/{dataset}/{training}/sigma={sigma}/seed={seed}.log",
    shell:
        "certsmooth train --dataset {wildcards.dataset:q} --training {wildcards.training:q}"
        " --sigma {wildcards.sigma:q} --seed {wildcards.seed:q} --threads {threads}"
        " --data {input.data:q} --output {output.model:q} --log {output.log:q} 2> {log:q}"
