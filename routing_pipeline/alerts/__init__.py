"""When to speak up: hourly sums, what stands out of them, which of it is news, what it is due to, and whom to tell."""
