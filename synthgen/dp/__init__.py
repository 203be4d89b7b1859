"""Differential privacy: what is charged, by how much, with which noise. No torch."""
