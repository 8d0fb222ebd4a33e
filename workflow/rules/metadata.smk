# What Snakemake knows of how a file was made lies beside it, in results/FOLDER/.metadata, so that DVC shares each folder
# with that: a pulled artefact counts as made, and one that other parameters made does not. Snakemake has one folder for
# all, which only one stage of dvc.yaml could share. DVC reads metrics and plots whole: theirs is among the tables.
from snakemake.persistence.file import FilePersistence

SHARED = ("data", "checkpoints", "counts", "certificates", "audits", "tables")
for folder in ("metrics", "plots", *(f"{folder}/.metadata" for folder in SHARED)):
    os.makedirs(f"results/{folder}", exist_ok=True)  # an out of DVC must be there, also where no table needs its files


class MetadataBeside(FilePersistence):
    """Snakemake's metadata, each record in the folder of its result."""

    def _record_path(self, subject, id):
        top, *rest = Path(id).parts
        if subject == self._metadata_path and top == "results" and len(rest) > 1:
            subject = f"results/{rest[0] if rest[0] in SHARED else 'tables'}/.metadata"
        return super()._record_path(subject, id)


sys.modules["snakemake.workflow"].FilePersistence = MetadataBeside
