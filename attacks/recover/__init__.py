"""Recoveries: a merged model, made better with data."""
