"""The account: its key, its balance, and what a billed call takes from it (API §5, §6)."""

import hmac

from attrs import define, field


@define
class Account:
    """The balance is in US dollars, `None` without a limit; the price is that of a call."""

    key: str | None = field(repr=False)
    balance: float | None
    price: float = field()

    @price.validator
    def _check_price(self, _: object, value: float) -> None:
        if not 0 <= value < float("inf"):
            raise ValueError(f"price must be a number of dollars from 0, got {value!r}")

    @property
    def is_empty(self) -> bool:
        """Whether requests are refused: the balance is zero or negative."""
        return self.balance is not None and self.balance <= 0

    def accepts(self, authorization: str) -> bool:
        """Return whether the header carries the key, or any key if the account has none."""
        if self.key is None:
            return authorization.removeprefix("Bearer ") not in ("", authorization)
        return hmac.compare_digest(authorization.encode(), f"Bearer {self.key}".encode())

    def charge(self) -> None:
        """Take the price of one billed call; cents stay exact."""
        if self.balance is not None:
            self.balance = round(self.balance - self.price, 6)
