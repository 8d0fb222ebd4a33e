"""The theorems, as functions of numbers."""
