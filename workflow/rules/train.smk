def train_code(w):
    spec = model(w)
    if spec.given is not None:
        return source_digest("experiment.steps.given", architecture_code(spec.architecture))
    return source_digest(
        "experiment.steps.train",
        *objective_code(spec.objective),
        f"science.sigma.{spec.policy.name}",
        f"science.noise.{spec.noise}",
        *network_code(spec),
        *data_code(spec.data),
    )


def objective_code(objective):
    """An objective, and the attack that it trains with: the one that it names, or any."""
    name = f"science.objectives.{objective.name}"
    if not depends_on(name, "science.objectives._attacks"):
        return [name]
    named = [value for value in objective.options.values() if value in names("attacks")]
    return [name, *(f"science.attacks.{attack}" for attack in named or names("attacks"))]


def builds_on(w):
    """The checkpoint that a training starts from, or that is given, and the labels of its teacher."""
    spec = model(w)
    return [
        *filter(None, [spec.start_file, spec.given]),
        *at([spec.start.path] if spec.start else []),
        *at([spec.labels.teacher.path, spec.labels.path] if spec.labels else []),
    ]


rule train:
    input:
        data=lambda w: at([model(w).data.path]),
        builds_on=builds_on,
    output:
        model="results/checkpoints/{dataset}/{training}/sigma={sigma}/seed={seed}/{grid}/model.safetensors",
        log="results/checkpoints/{dataset}/{training}/sigma={sigma}/seed={seed}/{grid}/training.csv",
    params:
        spec=lambda w: model(w).identity,
        code=train_code,
    threads: 1
    resources:
        gpu=1,
    log:
        "logs/train/{dataset}/{training}/sigma={sigma}/seed={seed}/{grid}.log",
    benchmark:
        "logs/benchmarks/checkpoints/{dataset}/{training}/sigma={sigma}/seed={seed}/{grid}/model.jsonl"
    shell:
        "certsmooth train {wildcards.dataset:q}/{wildcards.training:q}/sigma={wildcards.sigma:q}/seed={wildcards.seed:q}"
        "/{wildcards.grid:q} --threads {threads} 2> {log:q}"


rule label:
    input:
        data=lambda w: at([model(w).data.path]),
        model="results/checkpoints/{dataset}/{training}/sigma={sigma}/seed={seed}/{grid}/model.safetensors",
    output:
        "results/checkpoints/{dataset}/{training}/sigma={sigma}/seed={seed}/{grid}/pseudo_labels.json",
    params:
        spec=lambda w: experiment.labels(model_run(w)).asked,
        code=lambda w: source_digest(
            "experiment.steps.label", *network_code(model(w)), *data_code(model(w).data)
        ),
    threads: 1
    resources:
        gpu=1,
    log:
        "logs/label/{dataset}/{training}/sigma={sigma}/seed={seed}/{grid}.log",
    benchmark:
        "logs/benchmarks/checkpoints/{dataset}/{training}/sigma={sigma}/seed={seed}/{grid}/pseudo_labels.jsonl"
    shell:
        "certsmooth label {wildcards.dataset:q}/{wildcards.training:q}/sigma={wildcards.sigma:q}/seed={wildcards.seed:q}"
        "/{wildcards.grid:q} --threads {threads} 2> {log:q}"
