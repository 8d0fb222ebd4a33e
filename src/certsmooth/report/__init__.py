"""Tables and figures for people, from what the analysis found."""
