"""Steps 4 and 5 of the task: what to change, what it would bring, in which order, at which risk."""
