"""``recengine demo``: the whole engine on real data, one screen after another.

Each file here is one screen: a function `show` that does its work, measures it and prints what it
found. `command` puts them in order, `stage` is what they print on. Data is MovieLens 100K, texts
are encoded by MiniLM, and every figure on the screen is measured while you watch.
"""
