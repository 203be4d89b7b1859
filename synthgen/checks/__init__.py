"""The judge. It knows nothing of the accused: neither encoders nor networks are imported here."""
