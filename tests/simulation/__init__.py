"""A deterministic simulation of clients, their ledgers, the network and the server.

One seed decides everything: which processes there are, what their users do, what breaks and
when. The package runs unchanged, in virtual time, on one loop; a judge watches every bill.
"""

from simulation.run import Verdict, simulate

__all__ = ["Verdict", "simulate"]
