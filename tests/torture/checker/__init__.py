"""The judge: reads MongoDB, Elasticsearch and the log raw, and shares no code with the bank.

What an event does to an account is written here a second time, from the documents alone.
"""
