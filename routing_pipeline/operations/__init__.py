"""Every question that can be asked of a home: looked up where it was asked before, computed and kept where not."""
