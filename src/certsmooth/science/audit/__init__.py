"""Audits: what certificates with an input-dependent sigma promise, and what they cost, measured."""
