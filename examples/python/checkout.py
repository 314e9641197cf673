"""A shopper waits: what is behind this card token, now?

python checkout.py OPAY_TOKEN_visa
"""

import os
import sys

from cardtoken import Client, LookupFailedError, LookupTimeoutError


def main(card_token: str) -> int:
    with Client(os.environ.get("REDIS_URL", "redis://127.0.0.1:6379/0")) as client:
        try:
            # The deadline is yours: after 10 seconds the provider is not asked any more either.
            result = client.lookup({"opay_token": card_token}, timeout=10)
        except LookupTimeoutError:
            print("no answer in time: let the shopper enter the card again")
            return 4
        except LookupFailedError as error:
            print(f"failed: {error.category}{', try again later' if error.retryable else ''}")
            return 1
    if result.token is None:
        print("there is no such card any more")
        return 3
    token = result.token
    print(f"{token.brand} •••• {token.last4}, {token.exp_month or '??'}/{token.exp_year or '??'}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if len(sys.argv) > 1 else "OPAY_TOKEN_visa"))
