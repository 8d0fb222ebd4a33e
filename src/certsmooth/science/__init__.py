"""Randomized smoothing itself: tensors and arrays in, tensors and arrays out. Imports none of the other rooms."""
