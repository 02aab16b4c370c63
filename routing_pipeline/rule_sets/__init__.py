"""Rule sets from proposal to gateway: as they were proposed, who decided what about them, and what is live.

`life_cycle` knows which move may follow which, `place` a directory or a bucket in which nothing is ever half-written,
`record` puts the two together.
"""
