"""A made-up week whose truth is known (`traffic`), and the same written down as a gateway would (`logs`)."""
