"""What may be asked of a trained generator: read, checked, put to it; no torch."""
