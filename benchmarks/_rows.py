"""Markdown tables whose rows are printed as they are measured."""


def head(*cells: str) -> None:
    """Print the head of a table; the first column is text, the others are numbers."""
    print(f"\n| {' | '.join(cells)} |\n|:--|{'--:|' * (len(cells) - 1)}", flush=True)


def row(*cells: object) -> None:
    """Print one row."""
    print(f"| {' | '.join(map(str, cells))} |", flush=True)
