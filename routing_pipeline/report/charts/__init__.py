"""The report's charts: SVG without a browser or a network, one module per picture, each with its text alternative."""
