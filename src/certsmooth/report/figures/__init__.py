"""Figures of results, drawn without a display and written so that equal results give equal files."""
