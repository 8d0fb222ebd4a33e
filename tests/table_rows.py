"""What tests ask of a table's frames."""

from certsmooth.analysis.result import records


def rows(frame, **columns):
    """Return the rows of a frame that have these values; None for an absent one."""
    return [row for row in records(frame) if all(row[name] == value for name, value in columns.items())]


def row(frame, **columns):
    """Return the only such row."""
    (found,) = rows(frame, **columns)
    return found


def column(frame, name, **columns):
    """Return a column of these rows."""
    return [found[name] for found in rows(frame, **columns)]
