# The GPUs of this machine: as many jobs that want one (gpu=1) run at once, and each leases its own (certsmooth._internal.devices). Where
# jobs run on other machines, those give them out.
from certsmooth._internal.devices import VISIBLE, local_gpus
from snakemake.resources import Resource

is_local = workflow.resource_settings.nodes is None
if workflow.is_main_process and is_local and "gpu" not in workflow.global_resources and (gpus := local_gpus()):
    workflow.register_resource("gpu", Resource("gpu", len(gpus)))
    os.environ[VISIBLE] = ",".join(gpus)  # in full: jobs need not ask again
