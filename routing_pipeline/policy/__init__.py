"""The statistics: evidence, off-policy evaluation, search, proof, simulation, and the model of a rule set."""
