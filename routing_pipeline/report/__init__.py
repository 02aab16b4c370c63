"""Results to Markdown, HTML and JSON: nothing is computed here that is not already in a result."""
