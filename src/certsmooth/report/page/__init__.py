"""The results as one page: a static HTML file that needs no network.

Tables are HTML, readable without JavaScript; with it they can be sorted, curves drawn (Vega-Lite) and images filtered.
"""

from certsmooth.report.page.render import DrawnTable, Gallery, Page, Shown, page_html

__all__ = ["DrawnTable", "Gallery", "Page", "Shown", "page_html"]
