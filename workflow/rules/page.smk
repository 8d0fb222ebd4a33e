# results/index.html, of the tables that are there. Asked for alone it makes no table; with others, as in `all`, it
# comes after those. Drawn outside of the image, which holds what jobs need, as Snakemake itself is.
from importlib.util import find_spec

PAGE = "results/index.html"
DRAWS = find_spec("vl_convert") is not None and find_spec("markdown_it") is not None  # of the extra `workflow`
PAGE_TABLES = [*params.tables, "idrs/table1", *(["idrs/imagenet"] if params.high_dimension else [])]


def page_tables(_):
    """The tables that this call makes: all of them by default, or those that are asked for beside the page."""
    targets = {str(target) for target in workflow.dag_settings.targets}
    if "all" in targets or targets.isdisjoint({PAGE, "page"}):
        shown = PAGE_TABLES
    else:
        named = {
            table: {f"results/{table}.md", *(f"results/tables/{table}.{suffix}" for suffix in ("md", "csv", "json"))}
            for table in PAGE_TABLES
        }
        shown = [table for table in PAGE_TABLES if named[table] & targets]
    return [f"results/tables/{table}.json" for table in shown]


def page_content(w):
    """What the page shows of tables that this call does not make: a change of one of them makes the page anew.

    No function of the rule's input: Snakemake compares no parameter that is.
    """
    made = page_tables(w)
    paths = [f"results/tables/{table}.json" for table in [*PAGE_TABLES, "ledger"]]
    there = [Path(path) for path in paths if path not in made and os.path.exists(path)]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in there}


rule page:
    input:
        page_tables,
    output:
        PAGE,
    params:
        others=page_content,
        code=source_digest("experiment.steps.page"),
    container:
        None
    localrule: True
    log:
        "logs/tables/index.log",
    shell:
        "certsmooth page 2> {log:q}"
