# What Slurm needs that its plugin (2.8) does not do.
import subprocess

# A job array: the plugin runs each job inside a Snakemake that then looks for the output of the array's first job, and calls
# the job failed while that is missing (issue 447 of the plugin). Run the job's own command instead.
ARRAY = "--slurm-jobstep-array-execs="
for payload in [each.removeprefix(ARRAY) for each in sys.argv if each.startswith(ARRAY)]:
    from snakemake_executor_plugin_slurm_jobstep import _decompress_array_task_call

    if (task := os.environ["SLURM_ARRAY_TASK_ID"]) != os.environ["SLURM_ARRAY_TASK_MIN"]:
        sys.exit(subprocess.call(_decompress_array_task_call(payload, int(task)), shell=True))

# What a job gets when it is tried again: twice the memory for each time that it ran out of memory, twice the time for each
# time limit, and after any other failure what it had. What it gets first is in workflow/profiles/slurm. An array has the
# resources of its first job; jobs that are tried again together failed together.
SLURM_LOGS = Path("logs", "slurm")  # slurm-logdir in the profile; a failed job's log stays there
LIMITS = {
    "runtime": re.compile("DUE TO TIME LIMIT"),
    "mem_mb": re.compile("oom[-_]kill|: Out Of Memory|xceeded (job |step )?memory limit"),
}


def times_exceeded(limit, rulename, wildcards, attempt):
    """How many of a job's earlier attempts in this run ended at a limit, as their Slurm logs tell."""
    job = f"wildcards: {', '.join(f'{name}={value}' for name, value in wildcards.items())}\n"
    logs = {path: path.read_text(errors="replace") for path in SLURM_LOGS.glob(f"rule_{rulename}/**/*.log")}
    mine = sorted((path for path in logs if job in logs[path]), key=lambda path: [*map(int, path.stem.split("_"))])
    return sum(limit.search(logs[path]) is not None for path in mine[1 - attempt :])


def doubled_when_exceeded(resource, limit):
    def amount(wildcards, input, attempt, threads, rulename, async_run):
        first = resource.evaluate(
            wildcards, input=input, attempt=attempt, threads=threads, rulename=rulename, async_run=async_run
        )
        if attempt == 1:
            return first.value
        return first.value * 2 ** times_exceeded(limit, rulename, wildcards, attempt)

    return amount


if workflow.is_main_process:
    for each in workflow.rules:
        for name in LIMITS.keys() & each.resources:
            each.resources[name] = doubled_when_exceeded(each.resources[name], LIMITS[name])


def check_array_jobs():
    if getattr(workflow.executor_settings, "array_jobs", None) and workflow.nodes < sys.maxsize:
        # The plugin drops an array while other jobs of its rule are held back (issue 473).
        raise WorkflowError(f"--jobs {workflow.nodes}: job arrays would never be submitted; leave it out")
