"""Training of base classifiers: one loop for every objective and every sigma policy."""
