"""Doors that other libraries have, with this package behind them.

Each module here answers to the names and signatures of one library, so that a program changes its
import line and nothing else. No new algorithm stands here: what a door needs is built from the
public classes below it, and where the other library's answer is a trap, the answer is ours and the
module says so.
"""
