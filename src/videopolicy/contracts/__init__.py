"""What parts promise each other: backbones, extractors, decoders, policies, text encoders, data sets, benchmarks.

May import the vocabulary of the root (`types`, `spaces`, `errors`, `views`, `weights`). `components` builds on it: one
is the configuration from which a part is built.
"""
