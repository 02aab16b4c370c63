"""Which model may serve which request: what requests need, what models can, what the user allows."""
