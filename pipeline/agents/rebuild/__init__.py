"""Rebuilding the projection under live traffic: durable jobs, and what workers do for them."""
