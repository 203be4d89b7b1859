"""The generator, the critic and their training; the only folder that imports torch."""
