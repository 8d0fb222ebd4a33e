"""Counting classes under noise."""
