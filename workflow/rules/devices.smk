# How many jobs run at once on this machine. Those that want a GPU (gpu=1): as many as it has, and each leases its own
# (certsmooth._internal.devices). Where jobs run on other machines, those give them out.
from certsmooth._internal.devices import VISIBLE, local_gpus
from snakemake.resources import Resource

is_local = workflow.resource_settings.nodes is None
if workflow.is_main_process and is_local and "gpu" not in workflow.global_resources and (gpus := local_gpus()):
    workflow.register_resource("gpu", Resource("gpu", len(gpus)))
    os.environ[VISIBLE] = ",".join(gpus)  # in full: jobs need not ask again


def without_a_rate_of_jobs(scheduler):
    """Lift Snakemake's limit of jobs a second where cores say how many run.

    It looks at all ready jobs again a second after each look, and each job that ends begins another such chain: after 110
    jobs that took a quarter of a core.
    """
    if is_local:
        scheduler.job_rate_limiter = None
