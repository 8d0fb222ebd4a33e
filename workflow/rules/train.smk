def train_code(w):
    training, dataset = params.trainings[w.training], params.datasets[w.dataset]
    objective = f"science.objectives.{training.objective.name}"
    attacks = [f"science.attacks.{name}" for name in names("attacks")] if depends_on(objective, "science.objectives._attacks") else []
    return source_digest(
        "experiment.steps.train",
        objective,
        *attacks,
        f"science.sigma.{training.policy.name}",
        f"science.noise.{training.noise}",
        f"science.models.{dataset.architecture}",
        *data_code(w.dataset),
    )


def train_start(w):
    """The checkpoint that a training starts from: of another training, or a file; [] for none."""
    start = params.trainings[w.training].start
    if start is None:
        return []
    earlier = runs.start_run(params, model_run(w))
    return checkpoint(earlier) if earlier else start.checkpoint


def pseudo_labels(w):
    teacher = runs.teacher_run(params, model_run(w))
    return f"results/checkpoints/{teacher.folder}/pseudo_labels.json" if teacher else []


rule train:
    input:
        data=record,
        start=train_start,
        labels=pseudo_labels,
    output:
        model="results/checkpoints/{dataset}/{training}/sigma={sigma}/seed={seed}/{variant}/model.safetensors",
        log="results/checkpoints/{dataset}/{training}/sigma={sigma}/seed={seed}/{variant}/training.csv",
    params:
        slice=lambda w: runs.train_slice(params, model_run(w)),
        code=train_code,
        options=lambda w, input: [
            *(["--start", input.start] if input.start else []),
            *(["--pseudo-labels", input.labels] if input.labels else []),
        ],
    threads: 1
    resources:
        gpu=1,
    log:
        "logs/train/{dataset}/{training}/sigma={sigma}/seed={seed}/{variant}.log",
    shell:
        "certsmooth train --dataset {wildcards.dataset:q} --training {wildcards.training:q}"
        " --sigma {wildcards.sigma:q} --seed {wildcards.seed:q} --variant {wildcards.variant:q} --threads {threads}"
        " {params.options:q} --data {input.data:q} --output {output.model:q} --log {output.log:q} 2> {log:q}"


rule label:
    input:
        data=record,
        model=lambda w: checkpoint(model_run(w)),
    output:
        "results/checkpoints/{dataset}/{training}/sigma={sigma}/seed={seed}/{variant}/pseudo_labels.json",
    params:
        slice=lambda w: runs.label_slice(params, w.dataset),
        code=lambda w: source_digest(
            "experiment.steps.label", f"science.models.{params.datasets[w.dataset].architecture}", *data_code(w.dataset)
        ),
    threads: 1
    resources:
        gpu=1,
    log:
        "logs/label/{dataset}/{training}/sigma={sigma}/seed={seed}/{variant}.log",
    shell:
        "certsmooth label --dataset {wildcards.dataset:q} --training {wildcards.training:q}"
        " --sigma {wildcards.sigma:q} --seed {wildcards.seed:q} --threads {threads}"
        " --data {input.data:q} --checkpoint {input.model:q} --output {output:q} 2> {log:q}"
