"""What tests are made of, each described once: ``from factories import ...``.

Configurations, images, noise, base classifiers, artefacts, certified runs, plans, and whole folders of results. The
modules beside this package drive the world: a project under Snakemake and DVC, faults, a Slurm, hostile changes.
"""

from factories.artefacts import (
    DIGEST,
    IDENTITY,
    certificates_frame,
    certificates_provenance,
    checkpoint_header,
    log,
    made_by,
    random_counts,
    save_classifier,
)
from factories.certificates import GRID, certify_two_classes, two_class_counts
from factories.classifiers import WEIGHT, CoupledRows, Interval, RowLinear, half_space, modes
from factories.configuration import (
    SMALL,
    changed,
    digits_content,
    plain_yaml,
    renamed,
    shipped_content,
    small_content,
    write_params,
)
from factories.images import (
    LazyImages,
    Sample,
    batches,
    class_files,
    idx_bytes,
    image_bytes,
    imagenet_files,
    images_of,
    make_sample,
    numbered_files,
    own_sample,
    parquet_bytes,
    python_files,
    write_binary,
    write_folder,
    write_idx,
    write_npz,
    write_own_npz,
    write_own_parquet,
    write_tar,
)
from factories.noise import LAWS, quantiles, random_draw
from factories.places import REAL_IMAGES, REFERENCE, ROOT, needs_git, needs_images, needs_reference
from factories.plans import BENCHMARKS, RESULTS, benchmark, golden_plan, leave_output, record_images, write_benchmark
from factories.results import MadeResults
from factories.runs import certified_run, column, row, rows
