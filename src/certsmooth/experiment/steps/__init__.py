"""The steps of the workflow, one file each: files in, files out. Only the command line calls them."""
