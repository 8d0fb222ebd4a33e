"""What the workflow stores: checkpoints, counts, certificates, attacks, audits; each is checked when it is read."""
