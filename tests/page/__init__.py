"""The operator's page in a real browser, on a bank of real servers and roles."""
