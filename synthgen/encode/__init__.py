"""Columns to tokens and offsets, and back; numpy only."""
