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
    """The checkpoint that a training starts from, or that is given, the labels of its teacher, and those of a router."""
    spec = model(w)
    return [
        *filter(None, [spec.start_file, spec.given]),
        *at([spec.start.path] if spec.start else []),
        *at([spec.labels.teacher.path, spec.labels.path] if spec.labels else []),
        *(at([spec.routes.path]) + derived_from(spec.routes.labelling)["models"] if spec.routes else []),
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


def routing(w):
    return experiment.routes(w.dataset, w.training, int(w.seed))


rule route:
    input:
        unpack(lambda w: derived_from(routing(w).labelling)),
    output:
        "results/checkpoints/{dataset}/{training}/seed={seed}/routes.json",
    params:
        spec=lambda w: routing(w).identity,
        code=lambda w: source_digest("experiment.steps.route", *certificate_code(routing(w).labelling)),
    localrule: True
    log:
        "logs/route/{dataset}/{training}/seed={seed}.log",
    benchmark:
        "logs/benchmarks/checkpoints/{dataset}/{training}/seed={seed}/routes.jsonl"
    shell:
        "certsmooth route {wildcards.dataset:q}/{wildcards.training:q}/seed={wildcards.seed:q} 2> {log:q}"
