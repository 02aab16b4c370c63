"""Faces that are served and only read: metrics for Prometheus, tools for agents, the live page; `auth` says who may connect."""
