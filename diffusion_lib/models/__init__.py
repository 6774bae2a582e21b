"""Everything with weights: the parts that networks are built from, and the networks."""
