"""`python -m api.accounts` runs the account service."""

from api.accounts.app import create_app
from api.server import run

if __name__ == "__main__":
    run("accounts", create_app)
