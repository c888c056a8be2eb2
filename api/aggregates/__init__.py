"""The command service of an application that is not the bank (:8000)."""
